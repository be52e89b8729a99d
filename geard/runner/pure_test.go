package runner

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/engine"
)

func TestDecide(t *testing.T) {
	want := map[string]string{engine.LabelUID: "u", engine.LabelContainer: "main", engine.LabelHash: "h"}
	with := func(k, v string) map[string]string {
		l := map[string]string{engine.LabelUID: "u", engine.LabelContainer: "main", engine.LabelHash: "h", "maintainer": "of the image"}
		l[k] = v
		return l
	}
	ours := with("", "")
	ran := time.Now()
	tests := map[string]struct {
		last   api.ContainerStatus
		found  engine.Container
		exists bool
		want   action
	}{
		"nothing there":                    {exists: false, want: create},
		"ours runs":                        {found: engine.Container{Labels: ours, Running: true}, exists: true, want: adopt},
		"ours runs, the state is lost":     {last: api.ContainerStatus{State: api.RunStopped}, found: engine.Container{Labels: ours, Running: true}, exists: true, want: adopt},
		"ours was never started":           {found: engine.Container{ID: "1", Labels: ours}, exists: true, want: replace},
		"ours ended while nobody looked":   {last: api.ContainerStatus{ID: "1", State: api.RunRunning}, found: engine.Container{ID: "1", Labels: ours, Started: ran}, exists: true, want: collect},
		"ours ended and that is known":     {last: api.ContainerStatus{State: api.RunBackOff}, found: engine.Container{ID: "1", Labels: ours, Started: ran}, exists: true, want: replace},
		"ended before the host booted":     {found: engine.Container{ID: "1", Labels: ours, Started: ran}, exists: true, want: replace},
		"another spec runs":                {found: engine.Container{Labels: with(engine.LabelHash, "x"), Running: true}, exists: true, want: replace},
		"an earlier pod of that name runs": {found: engine.Container{Labels: with(engine.LabelUID, "x"), Running: true}, exists: true, want: replace},
		"somebody else has the name":       {found: engine.Container{Running: true}, exists: true, want: replace},
	}
	for name, tt := range tests {
		if got := decide(want, tt.last, tt.found, tt.exists); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestBackOffGrows(t *testing.T) {
	now := time.Unix(1e9, 0)
	var h history
	if h.wait(now) != 0 {
		t.Error("the first run waits")
	}
	for i, want := range []string{"1s", "2s", "4s", "8s", "16s", "32s", "1m0s", "1m0s"} {
		h = h.after(time.Second, goodRun, now, api.ReasonExited, "")
		if got := h.wait(now).String(); got != want {
			t.Errorf("after %d quick ends: %s, want %s", i+1, got, want)
		}
	}
	for range 100 {
		h = h.after(0, goodRun, now, api.ReasonExited, "")
	}
	if got := h.wait(now); got != maxDelay {
		t.Errorf("after very many: %s", got)
	}
	if h = h.after(goodRun, goodRun, now, api.ReasonExited, ""); h.wait(now) != 0 {
		t.Errorf("after a good run: %s, want none", h.wait(now))
	}
}

func TestBackOffAndTheClock(t *testing.T) {
	now := time.Unix(1e9, 0)
	h := history{Quick: 3, Ended: now}
	for offset, want := range map[time.Duration]time.Duration{
		0: 4 * time.Second, time.Second: 3 * time.Second, time.Hour: 0, -time.Hour: 4 * time.Second,
	} {
		if got := h.wait(now.Add(offset)); got != want {
			t.Errorf("with the clock at %s: %s, want %s", offset, got, want)
		}
	}
}

func TestPosition(t *testing.T) {
	a, b := time.Unix(1, 0), time.Unix(2, 0)
	p := position{}.advance(a).advance(a)
	if p != (position{a, 2}) {
		t.Errorf("got %v", p)
	}
	if p = p.advance(b).advance(a); p != (position{b, 1}) {
		t.Errorf("got %v; an older entry moves nothing", p)
	}
}

func TestTail(t *testing.T) {
	var all tail
	for i := range 30 {
		all.add(fmt.Appendf(nil, "line %d\n", i))
	}
	if lines := strings.Split(all.String(), "\n"); len(lines) != tailLines || lines[0] != "line 10" || lines[19] != "line 29" {
		t.Errorf("got %q", lines)
	}
	var parts tail
	parts.add([]byte("a long "))
	parts.add([]byte("line\n"))
	parts.add([]byte("\x1b[31mred\u202e\x00\xff\n"))
	if got := parts.String(); got != "a long line\n"+`\x1b[31mred\u202e\x00\xff` {
		t.Errorf("got %q", got)
	}
}

func TestPlain(t *testing.T) {
	const in = `starting container "5b91": Error response from daemon: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "/bin/nothere": stat /bin/nothere: no such file or directory: unknown`
	if got, want := plain(in), `starting container "5b91": exec: "/bin/nothere": stat /bin/nothere: no such file or directory`; got != want {
		t.Errorf("got %s", got)
	}
}

func FuzzOneLine(f *testing.F) {
	f.Add("a\nb\x1b]0;x\x07\u202e", 20)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = 10 + max(0, limit%1000)
		got := oneLine(s, limit)
		if len(got) > limit || !utf8.ValidString(got) {
			t.Errorf("%q is %d bytes, want at most %d of good UTF-8", got, len(got), limit)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Errorf("%q has %q", got, r)
			}
		}
	})
}

func TestNumericUser(t *testing.T) {
	for user, want := range map[string]string{"": "0 0 false", "redis": "0 0 false", "1000": "1000 1000 true", "5:6": "5 6 true", "5:staff": "5 5 true", "-1": "0 0 false"} {
		uid, gid, ok := numericUser(user)
		if got := fmt.Sprint(uid, gid, ok); got != want && ok {
			t.Errorf("%q is %s, want %s", user, got, want)
		} else if !ok && !strings.HasSuffix(want, "false") {
			t.Errorf("%q is no user; want %s", user, want)
		}
	}
}

func TestCheckHosts(t *testing.T) {
	pod := netip.MustParseAddr("10.127.0.2")
	ports := []api.Port{{Port: 80, Protocol: api.TCP}, {Port: 53, Protocol: api.UDP}}
	links := []api.LinkTarget{{Port: 5432, Localhost: true, Protocol: api.TCP}, {Port: 5433, Protocol: api.TCP}}
	for port, want := range map[uint16]string{
		80:   "10.127.0.2",           // others must reach it, so localhost does not count
		53:   "10.127.0.2 127.0.0.1", // published for UDP only
		5432: "10.127.0.2",           // localhost:5432 is a link
		5433: "10.127.0.2 127.0.0.1", // that link has its own address only
		9000: "10.127.0.2 127.0.0.1",
	} {
		if got := strings.Join(checkHosts(pod, ports, links, port), " "); got != want {
			t.Errorf("port %d: %s, want %s", port, got, want)
		}
	}
}

// What a watch reports, and when, of a check that goes well and badly.
func TestCheckerWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		results := []bool{false, false, true, false, true, false, false, true}
		c := checker{check: api.Check{Command: []string{"x"}}, exec: func(context.Context, []string) (int, string, error) {
			ok := results[0]
			if results = results[1:]; len(results) == 0 {
				cancel()
			}
			if ok {
				return 0, "", nil
			}
			return 1, "no\n", nil
		}}
		start := time.Now()
		var got []string
		c.watch(ctx, false, func(ready bool, _ error) { got = append(got, fmt.Sprintf("%v@%v", ready, time.Since(start))) })
		// 50 ms and 100 ms to be ready; one bad answer is not reported, two are.
		want := []string{"false@0s", "false@50ms", "true@150ms", "true@4.15s", "false@8.15s"}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestCheckerEach(t *testing.T) {
	refused := fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
	tests := map[string]struct {
		errs map[string]error
		want string
	}{
		"the pod's address":      {map[string]error{"a:80": nil, "b:80": refused}, "<nil>"},
		"localhost":              {map[string]error{"a:80": refused, "b:80": nil}, "<nil>"},
		"neither":                {map[string]error{"a:80": refused, "b:80": refused}, "nothing listens on port 80 of the pod's address"},
		"an answer that is late": {map[string]error{"a:80": errors.New("late"), "b:80": nil}, "late"},
	}
	for name, tt := range tests {
		c := checker{hosts: []string{"a", "b"}}
		if got := fmt.Sprint(c.each(80, func(address string) error { return tt.errs[address] })); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}
