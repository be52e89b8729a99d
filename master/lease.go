package master

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
)

// acknowledge answers a report, and says how soon the next one is due. A host with singletons is told which of them may run on; for that this master must still
// lead, by the word of more than half of the masters, at a time after the report came in. One that is cut off from the
// others, and does not know yet that another leads, thus gives no lease.
//
// The report was noted before the pods are looked at here. So a pod whose mark the controllers see is not given a lease
// that they do not see too.
func (m *Master) acknowledge(c *call, lead *store.Lead, host, mark api.Name) error {
	leases := m.cache.singletonsOf(host)
	every, another := m.pulses.tell(host, len(leases) > 0)
	if len(leases) > 0 {
		if err := m.confirmations.confirm(lead, m.stillLeads); err != nil {
			m.log.Warn("singletons get no lease", "host", host, "error", err)
			leases = nil
		}
	}
	if len(leases) == 0 && mark == "" && !another {
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return c.answer(http.StatusOK, api.ReportAnswer{Leases: leases, Every: api.Duration(every), Mark: mark})
}

// singletonsOf gives the singletons of a host that are not to end, sorted.
func (c *cache) singletonsOf(host api.Name) []api.UID {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.leased[host] == 0 {
		return nil
	}
	var out []api.UID
	for _, p := range c.byHost[host] {
		if p.Singleton() && !p.Metadata.Deleting {
			out = append(out, p.Metadata.UID)
		}
	}
	slices.Sort(out)
	return out
}

// hostsWithSingletons gives the hosts that have pods with leases, those included that are to end.
func (c *cache) hostsWithSingletons() map[api.Name]bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	out := map[api.Name]bool{}
	for host, n := range c.leased {
		out[host] = n > 0
	}
	return out
}

// countLeasedLocked counts a host's pods with leases.
func (c *cache) countLeasedLocked(p *api.Pod, by int) {
	if !p.Singleton() {
		return
	}
	if c.leased[p.Spec.Host] += by; c.leased[p.Spec.Host] == 0 {
		delete(c.leased, p.Spec.Host)
	}
}

// stillLeads asks the store whether a leadership holds. A transaction that only checks would not do: etcd answers one without
// a read or write from what this member has, which may be old. Get is answered by a quorum.
func (m *Master) stillLeads(lead *store.Lead) error {
	ctx, cancel := context.WithTimeout(context.Background(), api.SingletonAnswer)
	defer cancel()
	it, err := m.store.Get(ctx, lead.Fence.Key)
	if err != nil {
		return fmt.Errorf("asking the store who leads: %w", err)
	}
	if it.Revision != lead.Fence.If {
		return notLeading()
	}
	return nil
}

// confirmations shares one question to the store among all reports that came in before it is asked.
type confirmations struct {
	asking chan struct{} // one at a time
	mu     sync.Mutex
	next   *confirmation // is not asked yet
}

func newConfirmations() *confirmations { return &confirmations{asking: make(chan struct{}, 1)} }

type confirmation struct {
	lead *store.Lead
	done chan struct{}
	err  error
}

// confirm asks whether a leadership holds at some time between its call and its return.
func (q *confirmations) confirm(lead *store.Lead, ask func(*store.Lead) error) error {
	q.mu.Lock()
	c := q.next
	if c != nil && c.lead == lead {
		q.mu.Unlock()
		<-c.done
		return c.err
	}
	c = &confirmation{lead: lead, done: make(chan struct{})}
	q.next = c
	q.mu.Unlock()

	q.asking <- struct{}{}
	defer func() { <-q.asking }()
	q.mu.Lock()
	if q.next == c {
		q.next = nil // who comes from here on waits for the next one
	}
	q.mu.Unlock()
	c.err = ask(lead)
	close(c.done)
	return c.err
}
