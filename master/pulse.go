package master

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/control"
)

// When each host was last heard of, and what follows from that: how rarely it may report, whether its lease is good, and whether
// its singletons have ended (docs/adr/0013-heartbeats-grow-rare.md).

const (
	// heartbeats is how many a master hears in a second, from all hosts together, when nothing changes.
	heartbeats = 160
	// leaseSlack is how long a host's lease lasts beyond its next report: that one may get lost, or come late.
	leaseSlack = 6 * time.Second
	// leaseTime is the lease of a host that reports as often as it can. No lease is shorter.
	leaseTime = api.ReportEvery + leaseSlack
	// askTime is how long a host may take to report when it is asked to: by then two of its tries were lost.
	askTime = 4 * time.Second
)

// reportEvery gives how long a host may wait before its next report, in a cluster of so many. It goes by whole seconds, so that
// not every host that joins changes it.
func reportEvery(hosts int) time.Duration {
	every := (time.Duration(hosts) * time.Second / heartbeats).Truncate(time.Second)
	return min(max(every, api.ReportEvery), api.ReportEveryMost)
}

// pulses holds when each host last reported, and whom it cannot reach. It is kept in memory
// alone: a heartbeat writes nothing. Times are compared on the monotonic clock, so that a step of
// the wall clock ends no lease.
type pulses struct {
	every atomic.Int64 // how long a host may wait as a time.Duration, unless there is a reason to hear it sooner; 0 until health was asked for

	mu     sync.Mutex
	since  time.Time // no lease counts as run out before this plus its time
	seq    int64     // grows when someone is heard of again, or sees others down
	last   map[api.Name]pulse
	asked  map[api.Name]time.Time // hosts that are to report at once, and since when
	called map[api.Name]bool      // hosts that others call down: they report often
}

type pulse struct {
	at       time.Time
	every    time.Duration // how long it may wait, as it was told last
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
	p.asked, p.called = map[api.Name]time.Time{}, map[api.Name]bool{}
	p.seq++
}

// renew takes in a report that says the same as the host's last, if it does.
func (p *pulses) renew(host api.Name, s stamp) (same bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, heard := p.last[host]
	now := time.Now()
	if !heard || was.stamp != s || !p.goodLocked(host, now) {
		return false
	}
	was.at = now
	p.last[host] = was
	delete(p.asked, host)
	return true
}

// note takes in a host's report, in which those that are down are sorted, and tells whether it changes what is known of hosts' health, and which other hosts are to be asked
// for theirs now.
func (p *pulses) note(host api.Name, meshDown []api.Name, s stamp) (news bool, ask []api.Name) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, heard := p.last[host]
	now := time.Now()
	news = !heard || !p.goodLocked(host, now) || !slices.Equal(was.meshDown, meshDown)
	p.last[host] = pulse{now, p.everyLocked(host), meshDown, s}
	delete(p.asked, host)
	for _, down := range meshDown {
		_, known := p.last[down] // of others health knows better than this host whether there are such
		if _, before := slices.BinarySearch(was.meshDown, down); known && !before && down != host {
			p.called[down] = true // and by the next judgement, if that host's word counts
			ask = append(ask, p.askLocked(down, now)...)
		}
	}
	if news {
		p.seq++
	}
	return news, ask
}

// tell gives how long a host may wait before its next report, which it is told in the answer to this one, and whether that is another time than
// before. One of which others say that it is down is heard often, and one with singletons, whose leases its reports renew.
func (p *pulses) tell(host api.Name, leased bool) (every time.Duration, another bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	every = p.everyNow()
	if leased || p.called[host] {
		every = api.ReportEvery
	}
	l := p.last[host] // it has just been heard
	another = l.every != every
	l.every = every
	p.last[host] = l
	return every, another
}

// askLocked notes that a host is to report at once, unless it will soon or has been asked already. It gives the host when it is.
func (p *pulses) askLocked(host api.Name, now time.Time) []api.Name {
	if _, already := p.asked[host]; already || p.everyLocked(host) <= api.ReportEvery {
		return nil
	}
	p.asked[host] = now
	return []api.Name{host}
}

// askedOf tells since when a host is to report at once; zero when it is not.
func (p *pulses) askedOf(host api.Name) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[host]
}

// seen gives when a host last reported, or zero.
func (p *pulses) seen(host api.Name) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last[host].at
}

// see brings the times in the statuses of hosts up to date, of those that have ever reported.
func (p *pulses) see(hosts []api.Host) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range hosts {
		if s := &hosts[i].Status; !s.Seen.IsZero() {
			s.Seen = later(p.last[hosts[i].Metadata.Name].at, s.Seen)
		}
	}
}

func (p *pulses) seqNow() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seq
}

// everyNow gives how long a host of this cluster may wait before its next report.
func (p *pulses) everyNow() time.Duration { return max(time.Duration(p.every.Load()), api.ReportEvery) }

// overdue gives the hosts that are to be asked to report: those that go by a long time, as far as this master knows, though others call
// them down or they have singletons. It goes by the last judgement of health.
func (p *pulses) overdue(leased map[api.Name]bool) (ask []api.Name) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for _, list := range []map[api.Name]bool{leased, p.called} {
		for name, is := range list {
			if is {
				ask = append(ask, p.askLocked(name, now)...)
			}
		}
	}
	return ask
}

// health judges all hosts at once. The mesh reports a host as down when most of the other hosts
// that the master hears say so.
func (p *pulses) health(hosts []api.Host, now time.Time) map[api.Name]control.Health {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.every.Store(int64(reportEvery(len(hosts))))
	out := make(map[api.Name]control.Health, len(hosts))
	voters, votes := 0, map[api.Name]int{}
	for i := range hosts {
		name := hosts[i].Metadata.Name
		l, heard := p.last[name]
		good := p.goodLocked(name, now) && !hosts[i].Spec.Expelled // whose word counts no more
		ever := !hosts[i].Status.Seen.IsZero()                     // one that has never reported has no lease to run out
		out[name] = control.Health{LeaseGood: ever && good, Lapsed: !good && p.silentLocked(name, now) >= api.SingletonSilence}
		if heard && good {
			voters++
			count(votes, name, l.meshDown)
		}
	}
	p.called = make(map[api.Name]bool, len(votes))
	for name, n := range votes {
		h, ok := out[name]
		if !ok {
			continue
		}
		electorate := voters
		if _, heard := p.last[name]; heard && h.LeaseGood {
			electorate--
		}
		h.MeshDown = 2*n > electorate
		out[name], p.called[name] = h, true
	}
	return out
}

// count adds a host's votes on the others.
func count(votes map[api.Name]int, voter api.Name, down []api.Name) {
	for _, name := range down {
		if name != voter {
			votes[name]++
		}
	}
}

// goodLocked tells whether a host's lease is good: until it has been silent for longer than it was told that it may, or has not
// reported in time when it was asked to.
func (p *pulses) goodLocked(host api.Name, now time.Time) bool {
	silent := p.silentLocked(host, now)
	if silent < leaseTime {
		return true
	}
	if asked, ok := p.asked[host]; ok && now.Sub(asked) >= askTime {
		return false
	}
	return silent < p.everyLocked(host)+leaseSlack
}

// everyLocked gives how long a host may wait before its next report, as far as this leader knows: what hosts that it has not heard
// yet were told by the one before, was told to all.
func (p *pulses) everyLocked(host api.Name) time.Duration {
	if l, ok := p.last[host]; ok {
		return l.every
	}
	return p.everyNow()
}

// silentLocked gives how long a host has not been heard of, as far as this leader can tell: before it led, others may have.
func (p *pulses) silentLocked(host api.Name, now time.Time) time.Duration {
	from := p.since
	if at := p.last[host].at; at.After(from) {
		from = at
	}
	return now.Sub(from)
}
