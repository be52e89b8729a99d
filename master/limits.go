package master

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"gearmesh.dev/api"
)

// Hosts come first: no number of people and scripts keeps a report or a stream of desired state waiting. Of people, each has a rate
// of its own, and all together have so many requests at once. What is over that is told to come again in a second, which clients of
// ours do.
const (
	personRate  = 100 // requests a second, for ever
	personBurst = 500
	peopleAtOne = 64 // requests of people that are worked on at one time, streams and sessions aside
	peopleWait  = time.Second
	idlePerson  = 10 * time.Minute // after that a person's rate is forgotten; by then it is whole again
)

// limits holds people to what is theirs.
type limits struct {
	slots chan struct{}

	mu     sync.Mutex
	people map[identity]*spent
	swept  time.Time
}

// spent is what a person has used of the rate.
type spent struct {
	rate *rate.Limiter
	last time.Time
}

func newLimits() *limits {
	return &limits{slots: make(chan struct{}, peopleAtOne), people: map[identity]*spent{}}
}

// call takes one call of a person's rate.
func (l *limits) call(who identity, now time.Time) error {
	if who.kind != person {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweepLocked(now)
	s := l.people[who]
	if s == nil {
		s = &spent{rate: rate.NewLimiter(personRate, personBurst)}
		l.people[who] = s
	}
	s.last = now
	if !s.rate.AllowN(now, 1) {
		return api.Errorf(api.CodeRateLimited, "%s asks more than %d times a second", who, personRate)
	}
	return nil
}

// sweepLocked forgets those who have not asked for long.
func (l *limits) sweepLocked(now time.Time) {
	if now.Sub(l.swept) < idlePerson {
		return
	}
	l.swept = now
	for who, s := range l.people {
		if now.Sub(s.last) > idlePerson {
			delete(l.people, who)
		}
	}
}

// work takes a place among the requests that are worked on, and gives the function that leaves it.
func (l *limits) work(ctx context.Context, rt route, who identity) (leave func(), err error) {
	if who.kind != person || rt.stream || rt.session {
		return func() {}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, peopleWait)
	defer cancel()
	select {
	case l.slots <- struct{}{}:
		return func() { <-l.slots }, nil
	case <-ctx.Done():
		return nil, api.Errorf(api.CodeRateLimited, "the master works on %d requests of people already", peopleAtOne)
	}
}

// again tells the client when to try again, where an error does not say so itself.
func again(w http.ResponseWriter, after time.Duration) {
	w.Header().Set("Retry-After", fmt.Sprint(int(after.Seconds())))
}
