// Package story tells what Gearmesh is for, in steps that act on a real lab: make demo prints
// them, and the end-to-end test asserts them. Both use the commands that a user has; there is no
// private way into a host.
package story

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gearmesh.dev/contrib/lab"
)

// The guestbook's names.
const (
	Project = "guestbook"
	Alias   = "guestbook.lab"
)

// World is a lab with Gearmesh on it, and what the story has seen of it so far.
type World struct {
	Lab  *lab.Lab
	Root string // of the checkout
	Say  func(format string, args ...any)

	hosts   map[string]netip.Addr
	visits  int
	servers map[string]bool   // pods that answered
	webs    map[string]string // web pods' unit start times, to see that none restarted
	used    string            // a join token that has been used
}

// Step is a part of the story: what is shown, and how.
type Step struct {
	Name string
	Do   func(context.Context, *World) error
}

// Run goes through steps; done is told of each with its time. It ends with the first error.
func (w *World) Run(ctx context.Context, steps []Step, done func(Step, time.Duration, error)) error {
	for _, s := range steps {
		start := time.Now()
		err := s.Do(ctx, w)
		done(s, time.Since(start), err)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return nil
}

// Exec runs a command in a host and gives its standard output; the error carries what it printed.
func (w *World) Exec(ctx context.Context, host string, argv ...string) (string, error) {
	return w.pipe(ctx, nil, host, argv...)
}

func (w *World) pipe(ctx context.Context, in io.Reader, host string, argv ...string) (string, error) {
	var out, errs bytes.Buffer
	code, err := w.Lab.Exec(ctx, host, argv, lab.Streams{In: in, Out: &out, Err: &errs})
	if err == nil && code != 0 {
		err = fmt.Errorf("exit status %d\n%s%s", code, out.String(), errs.String())
	}
	if err != nil {
		return out.String(), fmt.Errorf("on %s, %s: %w", host, strings.Join(argv, " "), err)
	}
	return out.String(), nil
}

// Gear runs gear on the first host, as its administrator does.
func (w *World) Gear(ctx context.Context, args ...string) (string, error) {
	return w.Exec(ctx, "h1", append([]string{"gear"}, args...)...)
}

// Apply applies manifests.
func (w *World) Apply(ctx context.Context, manifest string, flags ...string) (string, error) {
	return w.pipe(ctx, strings.NewReader(manifest), "h1", append([]string{"gear", "apply", "-f", "-"}, flags...)...)
}

// JSON runs gear with -o json and reads the answer.
func (w *World) JSON(ctx context.Context, v any, args ...string) error {
	out, err := w.Gear(ctx, append(args, "-o", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), v); err != nil {
		return fmt.Errorf("gear %s: %w in %.300s", strings.Join(args, " "), err, out)
	}
	return nil
}

// Patience is how long a step waits for what has to come. It is no promise, and only bounds how long a step that fails takes: a step must
// pass on a machine that is slow, busy and stalls. How soon things come is for make bench and make faults.
const Patience = 3 * time.Minute

// Until asks again and again until ok says nil, for at most a time; then its last error counts.
func Until(ctx context.Context, atMost time.Duration, ok func() error) error {
	for end := time.Now().Add(atMost); ; {
		err := ok()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("not within %v: %w", atMost, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// Visit asks the guestbook through the router of a host, as a browser outside would, and gives the
// count and the pod that answered.
func (w *World) Visit(ctx context.Context, host string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.hosts[host].String()+"/", nil)
	if err != nil {
		return 0, "", err
	}
	req.Host = Alias
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: 20 * time.Second}).DialContext}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return 0, "", err
	}
	var n int
	var pod string
	if _, err := fmt.Sscanf(string(body), "visit %d, served by %s", &n, &pod); err != nil || resp.StatusCode != http.StatusOK {
		return 0, "", fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(body)))
	}
	return n, pod, nil
}

// Count visits through the routers of hosts in turn and fails unless each visit is answered and counts
// up. It may count by more than one: a router repeats a GET whose server went away, and so does the
// client of redis, and an INCR that was carried out twice has counted twice.
func (w *World) Count(ctx context.Context, times int, hosts ...string) error {
	for i := range times {
		n, pod, err := w.Visit(ctx, hosts[i%len(hosts)])
		if err != nil {
			return fmt.Errorf("visit %d of %d, through %s: %w", i+1, times, hosts[i%len(hosts)], err)
		}
		if n <= w.visits {
			return fmt.Errorf("the count went from %d to %d", w.visits, n)
		}
		w.visits = n
		if w.servers == nil {
			w.servers = map[string]bool{}
		}
		w.servers[pod] = true
	}
	return nil
}

// settle waits until a dozen visits in a row are answered through each of some hosts, after something has changed: routers and the links of
// web pods hear of it one after the other, and the first visit that is answered has been to one of them. It forgets the count: redis starts
// from what is on its new host's disk.
func (w *World) settle(ctx context.Context, hosts ...string) error {
	return Until(ctx, Patience, func() error {
		w.visits = -1
		for _, host := range hosts {
			if err := w.Count(ctx, 12, host); err != nil {
				return err
			}
		}
		return nil
	})
}

// manifest reads the guestbook's manifest.
func (w *World) manifest() (string, error) {
	text, err := os.ReadFile(filepath.Join(w.Root, "contrib/examples/guestbook/guestbook.yaml"))
	return string(text), err
}

// Dig asks the DNS server of a host and gives the answers, one a line.
func (w *World) Dig(ctx context.Context, host, name, kind string) (string, error) {
	return w.Exec(ctx, "h1", "dig", "+short", "+time=10", "+tries=2", "@"+w.hosts[host].String(), name, kind)
}

// Address gives where a host of the lab is.
func (w *World) Address(host string) netip.Addr { return w.hosts[host] }
