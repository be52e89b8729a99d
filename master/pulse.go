package master

import (
	"slices"
	"sync"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/control"
)

// leaseTime is how long a host counts as heard of after its last report. Hosts report every 2 s.
const leaseTime = 8 * time.Second

// pulses holds when each host last reported, and whom it cannot reach. It is kept in memory
// alone: a heartbeat writes nothing. Times are compared on the monotonic clock, so that a step of
// the wall clock ends no lease.
type pulses struct {
	mu    sync.Mutex
	since time.Time // no lease counts as run out before this plus leaseTime
	seq   int64     // grows when someone is heard of again, or sees others down
	last  map[api.Name]pulse
}

type pulse struct {
	at       time.Time
	meshDown []api.Name
	stamp    stamp
}

// stamp tells a report that says the same as the one before without reading it: its hash, and the
// count of changes of the host's pods when it was taken in.
type stamp struct {
	hash   uint64
	podSeq int64
}

// restart gives every host one full lease: this master has only begun to listen.
func (p *pulses) restart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since, p.last = time.Now(), map[api.Name]pulse{}
	p.seq++
}

// renew takes in a report that says the same as the host's last, if it does.
func (p *pulses) renew(host api.Name, s stamp) (same bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, heard := p.last[host]
	if !heard || was.stamp != s || time.Since(was.at) >= leaseTime {
		return false
	}
	was.at = time.Now()
	p.last[host] = was
	return true
}

// note takes in a host's report, and tells whether it changes what is known of hosts' health.
func (p *pulses) note(host api.Name, meshDown []api.Name, s stamp) (news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, heard := p.last[host]
	now := time.Now()
	if p.last == nil {
		p.last = map[api.Name]pulse{}
	}
	p.last[host] = pulse{now, meshDown, s}
	news = !heard || now.Sub(was.at) >= leaseTime || !slices.Equal(was.meshDown, meshDown)
	if news {
		p.seq++
	}
	return news
}

// seen gives when a host last reported, or zero.
func (p *pulses) seen(host api.Name) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last[host].at
}

func (p *pulses) seqNow() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seq
}

// health judges all hosts at once. The mesh reports a host as down when most of the other hosts
// that the master hears say so.
func (p *pulses) health(hosts []api.Host, now time.Time) map[api.Name]control.Health {
	p.mu.Lock()
	defer p.mu.Unlock()
	votes, voters := map[api.Name]int{}, map[api.Name]bool{}
	for _, h := range hosts {
		name := h.Metadata.Name
		if l, ok := p.last[name]; ok && now.Sub(l.at) < leaseTime {
			voters[name] = true
			for _, down := range l.meshDown {
				if down != name {
					votes[down]++
				}
			}
		}
	}
	out := make(map[api.Name]control.Health, len(hosts))
	for _, h := range hosts {
		name := h.Metadata.Name
		electorate := len(voters)
		if voters[name] {
			electorate--
		}
		ever := !h.Status.Seen.IsZero() // one that has never reported has no lease to run out
		out[name] = control.Health{LeaseGood: ever && p.leaseLocked(name, now), MeshDown: 2*votes[name] > electorate}
	}
	return out
}

func (p *pulses) leaseLocked(host api.Name, now time.Time) bool {
	from := p.since
	if at := p.last[host].at; at.After(from) {
		from = at
	}
	return now.Sub(from) < leaseTime
}
