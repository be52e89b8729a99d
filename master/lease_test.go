package master

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
	"gearmesh.dev/master/store/memory"
)

// shaky is a store that answers no Get while it has no quorum.
type shaky struct {
	store.Store
	mu   sync.Mutex
	down bool
}

func (s *shaky) set(down bool) { s.mu.Lock(); s.down = down; s.mu.Unlock() }

func (s *shaky) Get(ctx context.Context, key string) (store.Item, error) {
	s.mu.Lock()
	down := s.down
	s.mu.Unlock()
	if down {
		return store.Item{}, store.ErrUnavailable
	}
	return s.Store.Get(ctx, key)
}

// leases gives the leases that a host's report is answered with.
func (u *user) leases() []api.UID {
	u.c.t.Helper()
	return read[api.ReportAnswer](u.c.t, u.must("PUT", "/v1/hosts/"+string(u.name)+"/report", u.report(), http.StatusOK)).Leases
}

// mail makes a singleton and gives its pod once it has a host.
func (c *cluster) mail() api.Pod {
	c.t.Helper()
	c.ann().must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	s := web("shop", "mail")
	s.Spec.Singleton = true
	c.ann().must("PUT", "/v1/projects/shop/services/mail", s, http.StatusCreated)
	var pods api.List[api.Pod]
	c.until("a pod with a host", func() bool {
		pods = read[api.List[api.Pod]](c.t, c.ann().must("GET", "/v1/projects/shop/pods", nil, http.StatusOK))
		return len(pods.Items) == 1 && pods.Items[0].Spec.Host != ""
	})
	return pods.Items[0]
}

func TestReportsOfSingletonsAreAnsweredWithLeases(t *testing.T) {
	s := &shaky{Store: memory.New()}
	c := startOver(t, s)
	h1 := c.join("h1", "10.0.0.1")
	if got := h1.leases(); got != nil {
		t.Errorf("a host without pods gets %q", got)
	}
	pod := c.mail()
	uid := pod.Metadata.UID
	if pod.Spec.Fence == 0 {
		t.Error("the pod has no fencing token")
	}
	for range 3 { // one with news, then heartbeats
		if got := h1.leases(); !slices.Equal(got, []api.UID{uid}) {
			t.Errorf("its host gets %q, want %q", got, uid)
		}
	}
	h2 := c.join("h2", "10.0.0.2")
	if got := h2.leases(); got != nil {
		t.Errorf("another host gets %q", got)
	}

	s.set(true)
	if got := h1.leases(); got != nil {
		t.Errorf("without a quorum its host gets %q", got)
	}
	s.set(false)
	lead := *c.m.lead.Load()
	past := lead
	past.Fence.If-- // as if another had led since
	c.m.lead.Store(&past)
	if got := h1.leases(); got != nil {
		t.Errorf("a master that has been replaced without noticing gives %q", got)
	}
	c.m.lead.Store(&lead)
	if got := h1.leases(); len(got) != 1 {
		t.Errorf("it leads, and gives %q", got)
	}
	c.ann().must("DELETE", "/v1/projects/shop/pods/"+string(pod.Metadata.Name), nil, http.StatusOK)
	c.until("an answer without the pod that is to end", func() bool { return !slices.Contains(h1.leases(), uid) })
}

// TestLapsedHosts: a host is lapsed when it has been silent for all of the sum, and a new leader counts from its own start.
func TestLapsedHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pulses{}
		p.restart()
		hosts := hostsNamed("a")
		lapsed := func(want bool) {
			t.Helper()
			if got := p.health(hosts, time.Now())["a"]; got.Lapsed != want || got.Lapsed && got.LeaseGood {
				t.Errorf("got %+v, want lapsed %v", got, want)
			}
		}
		time.Sleep(api.SingletonSilence - 1)
		lapsed(false)
		time.Sleep(time.Nanosecond)
		lapsed(true)
		p.note("a", nil, stamp{})
		lapsed(false)
		time.Sleep(api.SingletonSilence - 1)
		lapsed(false)
		p.renew("a", stamp{})
		time.Sleep(time.Nanosecond)
		lapsed(true) // its lease had run out: what it says is read anew, and noted then
		p.restart()
		lapsed(false)
		time.Sleep(api.SingletonSilence)
		lapsed(true)
	})
}

// TestConfirmationsAreShared: a question that was asked before a report came in does not answer for it; those that wait
// share the next one.
func TestConfirmationsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newConfirmations()
		lead, asked, goOn := &store.Lead{}, 0, make(chan error)
		ask := func(*store.Lead) error { asked++; return <-goOn }
		results := make(chan error, 10)
		for range 3 {
			go func() { results <- q.confirm(lead, ask) }()
			synctest.Wait()
		}
		goOn <- nil // for the first alone
		synctest.Wait()
		if asked != 2 || len(results) != 1 {
			t.Fatalf("asked %d times, %d answered", asked, len(results))
		}
		lost := errors.New("lost")
		goOn <- lost
		synctest.Wait()
		if <-results != nil || !errors.Is(<-results, lost) || !errors.Is(<-results, lost) || asked != 2 {
			t.Errorf("the two that came later share another answer; asked %d times", asked)
		}
	})
}
