package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/lab"
	"gearmesh.dev/contrib/story"
)

// The fake registry listens on a loopback address of the target: dockerd takes those without TLS. It is this
// very program, which runs in the host as faults-registry.
const (
	fakeAddress = "127.0.0.1:5005"
	realAddress = "registry.lab:5000"
)

// serveFake is the fake registry: it passes on what the real one says of guestbook/NAME for HOW/NAME, where
// HOW is slow, hang or lie.
func serveFake(ctx context.Context) error {
	l, err := net.Listen("tcp", fakeAddress)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: http.HandlerFunc(fake), ReadHeaderTimeout: 5 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func fake(w http.ResponseWriter, r *http.Request) {
	how, path := split(r.URL.Path)
	blob := strings.Contains(path, "/blobs/")
	if how == "hang" {
		<-r.Context().Done()
		return
	}
	req, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+realAddress+path, nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	req.Header = r.Header.Clone()
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	for k, v := range resp.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(resp.StatusCode)
	pass(w, resp.Body, how, blob)
}

// split takes the behaviour out of a path: /v2/slow/web/manifests/1 is slow, and /v2/guestbook/web/manifests/1.
func split(path string) (how, real string) {
	parts := strings.SplitN(path, "/", 4)
	if len(parts) < 4 {
		return "", path
	}
	return parts[2], "/v2/guestbook/" + parts[3]
}

// pass copies an answer; a lie changes a byte of each piece of a blob, and a slow one comes in pieces.
func pass(w http.ResponseWriter, body io.Reader, how string, blob bool) {
	flush := http.NewResponseController(w)
	for piece := make([]byte, 512<<10); ; {
		n, err := io.ReadFull(body, piece)
		if blob && how == "lie" && n > 0 {
			piece[n/2] ^= 0xff
		}
		if _, werr := w.Write(piece[:n]); err != nil || werr != nil {
			return
		}
		if blob && how == "slow" {
			flush.Flush()
			time.Sleep(time.Second)
		}
	}
}

// badRegistry is F20.
func badRegistry(ctx context.Context, r *rig) ([]figures.Row, error) {
	if _, err := r.sh(ctx, target, `systemctl reset-failed faults-registry 2>/dev/null || true
		systemctl is-active -q faults-registry || systemd-run -q --unit=faults-registry /usr/local/bin/faults -serve-fake`); err != nil {
		return nil, err
	}
	alone, err := r.deployTime(ctx, "victim")
	if err != nil {
		return nil, err
	}
	if err := r.loadFresh(ctx); err != nil {
		return nil, err
	}
	for _, how := range []string{"slow", "hang", "lie"} {
		manifest := strings.Replace(service(how, target), webImage, fakeAddress+"/"+how+"/"+how+":1", 1)
		if _, err := r.Apply(ctx, manifest, "--no-wait"); err != nil {
			return nil, err
		}
	}
	beside, err := r.deployTime(ctx, "victim")
	if err != nil {
		return nil, fmt.Errorf("a deployment beside a hanging registry: %w", err)
	}
	said, running, lieErr := r.lieIsNamed(ctx)
	slowErr := r.runs(ctx, "slow", target, 1)
	_, stopErr := r.sh(ctx, target, "systemctl stop faults-registry")
	if err := errors.Join(lieErr, slowErr, stopErr, r.remove(ctx, "slow", "hang", "lie")); err != nil {
		return nil, err
	}
	return []figures.Row{
		figures.Times("F20", "another deployment while images come from a slow, a hanging and a lying registry", []time.Duration{beside}).
			Against("with none of them", float64(alone.Milliseconds())).NoMoreThan(2),
		figures.Row{ID: "F20.lie", What: "an image whose bytes are not its digest's: pods that run; the reason is " + said, Value: float64(running), Unit: "pods"}.WithGoal("0 pods", running == 0),
	}, nil
}

// loadFresh puts two images into the real registry whose layers no host has yet: dockerd asks for no layer twice.
func (r *rig) loadFresh(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "gear-faults")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what stays is a file in /tmp
	if err := os.WriteFile(filepath.Join(dir, "marker"), []byte(time.Now().String()), 0o644); err != nil {
		return err
	}
	// What runs from the slow one is this program as a registry, because it stays.
	if _, err := r.Lab.Load(ctx, lab.Image{Name: "guestbook/slow:1", Binary: r.self, Cmd: []string{"-serve-fake"}}); err != nil {
		return err
	}
	_, err = r.Lab.Load(ctx, lab.Image{Name: "guestbook/lie:1", Dir: dir, Entrypoint: []string{"/marker"}})
	return err
}

// deployTime gives how long a service takes to run, and removes it.
func (r *rig) deployTime(ctx context.Context, name string) (time.Duration, error) {
	start := time.Now()
	if _, err := r.Apply(ctx, service(name, target), "--no-wait"); err != nil {
		return 0, err
	}
	if err := r.runs(ctx, name, target, 1); err != nil {
		return 0, err
	}
	took := time.Since(start)
	return took, r.remove(ctx, name)
}

// lieIsNamed waits until the pod with the false image says so, and sees that it does not run.
func (r *rig) lieIsNamed(ctx context.Context) (said string, running int, err error) {
	err = story.Until(ctx, story.Patience, func() error {
		pods, err := r.Pods(ctx, "lie")
		if err != nil {
			return err
		}
		for _, p := range pods {
			if p.Status.Reason == api.ReasonImagePull {
				said = string(p.Status.Reason) + ": " + p.Status.Message
				return nil
			}
		}
		return fmt.Errorf("the pod of a false image does not say so: %+v", pods)
	})
	if err != nil {
		return "", 0, err
	}
	if len(said) > 80 {
		said = "…" + said[len(said)-80:]
	}
	running, err = r.running(ctx, "lie", target)
	return said, running, err
}
