package master

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"gearmesh.dev/api"
)

func limited(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && e.Code == api.CodeRateLimited
}

func TestPeopleHaveARateEach(t *testing.T) {
	l, now := newLimits(), time.Unix(1000, 0)
	ann, bob, h1 := identity{person, "ann"}, identity{person, "bob"}, identity{host, "h1"}
	for i := range personBurst {
		if err := l.call(ann, now); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	if !limited(l.call(ann, now)) {
		t.Error("nothing holds ann back")
	}
	for range 10 * personBurst {
		if err := l.call(h1, now); err != nil {
			t.Fatalf("a host is held back: %v", err)
		}
	}
	if err := l.call(bob, now); err != nil {
		t.Errorf("ann's calls count as bob's: %v", err)
	}
	allowed := 0
	for range 2 * personRate {
		if l.call(ann, now.Add(time.Second)) == nil {
			allowed++
		}
	}
	if allowed != personRate {
		t.Errorf("%d calls a second later, want %d", allowed, personRate)
	}
	if l.call(bob, now.Add(3*idlePerson)); len(l.people) != 1 {
		t.Errorf("%d people are remembered", len(l.people))
	}
}

func TestHostsNeverWaitForPeople(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, ann := newLimits(), identity{person, "ann"}
		var leave func()
		for range peopleAtOne {
			var err error
			if leave, err = l.work(t.Context(), route{}, ann); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		if _, err := l.work(t.Context(), route{}, ann); !limited(err) || time.Since(start) != peopleWait {
			t.Errorf("one too many: %v after %s", err, time.Since(start))
		}
		if _, err := l.work(t.Context(), route{}, identity{host, "h1"}); err != nil {
			t.Errorf("a host: %v", err)
		}
		if _, err := l.work(t.Context(), route{stream: true}, ann); err != nil {
			t.Errorf("a stream: %v", err)
		}
		leave()
		if _, err := l.work(t.Context(), route{}, ann); err != nil {
			t.Errorf("when one has left: %v", err)
		}
	})
}
