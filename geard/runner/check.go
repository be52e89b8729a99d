package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"gearmesh.dev/api"
)

const (
	defaultInterval = api.Duration(2 * time.Second)
	// firstProbe is the time to the second try of a container that has just started; it doubles up to the
	// interval, so that a quick start is seen at once.
	firstProbe = 50 * time.Millisecond
)

// checker asks one container how it is.
//
// TCP, HTTP and gRPC checks connect to the pod's own address from inside its namespace: what passes is
// what others can reach too, and no link is hit, since links stand on 127.0.0.0/8. A port that the pod does not
// publish may be served on 127.0.0.1 alone, so that is tried as well, unless it is a link's.
type checker struct {
	check api.Check
	hosts []string // addresses to try in turn
	dial  func(ctx context.Context, address string) (net.Conn, error)
	exec  func(ctx context.Context, argv []string) (int, string, error)
}

// checkHosts gives the addresses of a pod where a port may be asked.
func checkHosts(pod netip.Addr, ports []api.Port, links []api.LinkTarget, port uint16) []string {
	own := []string{pod.String()}
	published := slices.ContainsFunc(ports, func(p api.Port) bool { return p.Port == port && p.Protocol != api.UDP })
	linked := slices.ContainsFunc(links, func(l api.LinkTarget) bool { return l.Localhost && l.Port == port && l.Protocol != api.UDP })
	if published || linked {
		return own
	}
	return append(own, "127.0.0.1")
}

// watch asks until ctx is done and reports each change. ready says how it starts.
func (c checker) watch(ctx context.Context, ready bool, report func(ready bool, why error)) {
	interval := orDefault(c.check.Interval, defaultInterval).Std()
	pause, failed := min(firstProbe, interval), 0
	if ready {
		pause = interval
	}
	for first := !ready; ; first = false {
		if !first {
			sleep(ctx, pause)
			pause = min(2*pause, interval)
		}
		err := c.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			failed, ready, pause = 0, true, interval
			report(true, nil)
			continue
		}
		failed++
		if ready = ready && failed < orCount(c.check.Failures, readyFailures); !ready {
			report(false, err)
		}
	}
}

// once asks once.
func (c checker) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, orDefault(c.check.Timeout, api.Duration(2*time.Second)).Std())
	defer cancel()
	switch {
	case c.check.HTTP != nil:
		return c.each(c.check.HTTP.Port, func(address string) error { return c.http(ctx, address) })
	case c.check.TCP != nil:
		return c.each(c.check.TCP.Port, func(address string) error { return c.tcp(ctx, address) })
	case c.check.GRPC != nil:
		return c.each(c.check.GRPC.Port, func(address string) error { return c.grpc(ctx, address) })
	case len(c.check.Command) > 0:
		return c.command(ctx)
	}
	return nil
}

// each tries the port on all hosts until one passes, and gives the first one's error.
func (c checker) each(port uint16, try func(address string) error) error {
	var first error
	for _, h := range c.hosts {
		err := try(net.JoinHostPort(h, fmt.Sprint(port)))
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
	}
	if errors.Is(first, syscall.ECONNREFUSED) {
		return fmt.Errorf("nothing listens on port %d of the pod's address", port)
	}
	return first
}

func (c checker) tcp(ctx context.Context, address string) error {
	conn, err := c.dial(ctx, address)
	if err != nil {
		return fmt.Errorf("tcp check: %w", err)
	}
	return conn.Close()
}

// http asks with GET. Redirects are not followed: they pass, and might lead anywhere.
func (c checker) http(ctx context.Context, address string) error {
	conn, err := c.dial(ctx, address)
	if err != nil {
		return fmt.Errorf("http check: %w", err)
	}
	defer conn.Close()
	transport := &http.Transport{
		DialContext:            func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: 64 << 10,
	}
	defer transport.CloseIdleConnections()
	path := c.check.HTTP.Path
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return fmt.Errorf("http check: %w", err)
	}
	req.Header.Set("User-Agent", "gear-run")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("http check: GET %s: %w", path, err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("http check: GET %s answers %d; want 200 to 399", path, resp.StatusCode)
	}
	return nil
}

func (c checker) command(ctx context.Context) error {
	code, out, err := c.exec(ctx, c.check.Command)
	if err != nil {
		return fmt.Errorf("command check: %w", err)
	}
	if code != 0 {
		return fmt.Errorf("command check: exit status %d: %s", code, oneLine(strings.TrimSpace(out), tailLineLen))
	}
	return nil
}

func orDefault(d, otherwise api.Duration) api.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}
