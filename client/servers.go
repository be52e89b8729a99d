package client

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"sync"
	"time"

	"gearmesh.dev/api"
)

// headerTime is how long one of several masters may take to begin its answer before the next is
// asked. A master answers within 2 s, or says that it cannot.
const headerTime = 2 * time.Second

// otherDial is how long one of several masters may take to take a connection.
const otherDial = time.Second

// errNoHeader is why one of several masters is given up.
var errNoHeader = errors.New("it does not begin to answer")

// servers is the masters that a Client knows, and the one that it talks to.
type servers struct {
	mu  sync.Mutex
	all []url.URL
	at  int
}

// now gives the master to ask.
func (s *servers) now() url.URL {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[s.at]
}

func (s *servers) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// failed goes on to the next master, unless another call has done so already.
func (s *servers) failed(was url.URL) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[s.at] == was {
		s.at = (s.at + 1) % len(s.all)
	}
}

// set replaces the masters. The one that is talked to stays so when it is among them.
func (s *servers) set(all []url.URL) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = max(0, slices.Index(all, s.all[s.at]))
	s.all = all
}

// Use makes known which masters there are, the one of Config first; those that are no addresses are left out.
func (c *Client) Use(others []string) {
	all := []url.URL{c.first}
	for _, text := range others {
		if u, err := parseServer(text); err == nil && !slices.Contains(all, u) {
			all = append(all, u)
		}
	}
	c.servers.set(all)
}

// elsewhere tells whether another master may do what this one did not, and turns to it.
func (c *Client) elsewhere(asked url.URL, err error) bool {
	if c.servers.count() < 2 {
		return false
	}
	var connect *ConnectError
	var a *answered
	switch {
	case errors.As(err, &connect):
	case errors.As(err, &a) && a.problem.Code == api.CodeUnavailable:
	default:
		return false
	}
	c.servers.failed(asked)
	return true
}

// begin bounds the time until an answer begins, where another master could give it. The caller calls
// begun when it has.
func (c *Client) begin(ctx context.Context, req request) (bounded context.Context, begun func()) {
	if c.servers.count() < 2 || !req.idempotent || req.timeout != 0 {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	t := time.AfterFunc(headerTime, func() { cancel(errNoHeader) })
	return ctx, func() { t.Stop() }
}
