package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"gearmesh.dev/contrib/lab"
	"gearmesh.dev/contrib/story"
)

// pings holds one connection through a pod's link to the database, as a client's library does, and
// ends when an answer does not come.
const pings = `
uid=$(docker ps -q -f label=dev.gearmesh.service=web -f status=running | head -1 | xargs docker inspect -f '{{index .Config.Labels "dev.gearmesh.uid"}}')
exec nsenter --net=/run/netns/gear-$uid bash -c '
	exec 3<>/dev/tcp/127.0.0.1/6379 || exit 1
	while echo PING >&3 && read -r -t 60 answer <&3; do echo "$answer"; sleep 0.2; done
	echo "the session ended"'`

// session is a connection that is open during a fault.
type session struct {
	cancel context.CancelFunc
	ended  sync.WaitGroup
	mu     sync.Mutex
	text   bytes.Buffer
	may    map[string]bool
}

// Write implements io.Writer.
func (s *session) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *session) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// openSession opens one from a web pod of the first host that has one to the database on the target.
func (r *rig) openSession(ctx context.Context) (*session, error) {
	from, err := r.webHost(ctx)
	if err != nil {
		return nil, err
	}
	inner, cancel := context.WithCancel(ctx)
	s := &session{cancel: cancel, may: r.mayChange}
	s.ended.Go(func() {
		// How it ended is in what it said: a session that is closed is killed.
		_, _ = r.Lab.Exec(inner, from, []string{"sh", "-c", pings}, lab.Streams{Out: s, Err: s})
	})
	for end := time.Now().Add(story.Patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if strings.Contains(s.said(), "PONG") {
			return s, nil
		}
	}
	cancel()
	s.ended.Wait()
	return nil, fmt.Errorf("no session from %s to the database: %s", from, s.said())
}

// webHost gives a host with a web pod that is not the target.
func (r *rig) webHost(ctx context.Context) (string, error) {
	for _, h := range []string{"h1", "h3"} {
		if n, err := r.running(ctx, "web", h); err != nil || n > 0 {
			return h, err
		}
	}
	return "", errors.New("no web pod runs on h1 or h3")
}

// close ends the session, and tells whether it lived until now. A fault that takes a host away may end it.
func (s *session) close() error {
	before, after := s.said(), ""
	for end := time.Now().Add(story.Patience); ; time.Sleep(100 * time.Millisecond) {
		after = s.said()
		if len(s.may) > 0 || strings.Count(after, "PONG") > strings.Count(before, "PONG") || strings.Contains(after, "the session ended") || time.Now().After(end) {
			break
		}
	}
	s.cancel()
	s.ended.Wait()
	if len(s.may) > 0 || strings.Count(after, "PONG") > strings.Count(before, "PONG") {
		return nil
	}
	return fmt.Errorf("the session through a link did not live: it ends with %q", lastLine(after))
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
