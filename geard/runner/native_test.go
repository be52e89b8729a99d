package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gearmesh.dev/api"
)

func TestNativeExit(t *testing.T) {
	tests := map[NativeExit]string{
		{"success", "exited", "0"}:    "Exited: exit status 0 (0)",
		{"exit-code", "exited", "7"}:  "Exited: exit status 7 (7)",
		{"signal", "killed", "KILL"}:  "Exited: killed by SIGKILL (255)",
		{"oom-kill", "killed", "9"}:   "OOMKilled: killed by the kernel over its memory limit (9)",
		{"resources", "", ""}:         `CreateFailed: systemd says "resources"; killed by SIG; see systemctl status (255)`,
		{"exit-code", "exited", "\n"}: `Exited: killed by SIG\n (255)`,
	}
	for e, want := range tests {
		reason, message, code := e.reason()
		if got := fmt.Sprintf("%s: %s (%d)", reason, message, code); got != want {
			t.Errorf("%+v: %s; want %s", e, got, want)
		}
	}
}

func TestNativeCommand(t *testing.T) {
	pod := api.Pod{}
	pod.Spec.Template.Env = map[string]string{"A": "pod", "B": "pod"}
	pod.Spec.Template.Links = []api.Link{{Service: "db", LocalPort: 5432, Protocol: api.TCP}}
	pod.Spec.Template.Containers = []api.Container{{Name: "main", Image: "a"},
		{Name: "x", Env: map[string]string{"B": "own"}, Native: &api.Native{Command: []string{"/bin/x", "%n $HOME\n"}}}}
	n, err := nativeCommand(pod, pod.Spec.Template.Containers[1])
	if err != nil || !slices.Equal(n.Argv, []string{"/bin/x", "%n $HOME\n"}) {
		t.Errorf("got %q, %v", n.Argv, err)
	}
	dir := t.TempDir()
	if err := n.save(dir); err != nil {
		t.Fatal(err)
	}
	back, err := LoadNative(dir)
	if err != nil || !slices.Equal(back.Argv, n.Argv) {
		t.Errorf("it comes back as %+v, %v", back, err)
	}
	env := back.Environ([]string{"HOME=/", "NOTIFY_SOCKET=/run/x", "RUNTIME_DIRECTORY=/run/y"})
	if want := []string{"A=pod", "B=own", "DB_5432_ADDR=127.0.0.1:5432", "DB_5432_HOST=127.0.0.1", "DB_5432_PORT=5432",
		"DB_ADDR=127.0.0.1:5432", "DB_HOST=127.0.0.1", "DB_PORT=5432", "GEAR_LINKS_SOCKET=/run/gearmesh/links.sock", "HOME=/", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}; !slices.Equal(env, want) {
		t.Errorf("environment is %q", env)
	}
	if _, err := nativeCommand(pod, pod.Spec.Template.Containers[0]); err == nil {
		t.Error("a container with an image is taken for a program")
	}
}

// The life of a program, as systemd tells it.
func TestNativeLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := api.Container{Native: &api.Native{Command: []string{"/bin/x"}}}
		h := newHost(t, c, nil)
		h.pod(nil, api.Container{Name: "main", Native: c.Native})
		step := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		start, dir := time.Now(), t.TempDir()
		for i := range 3 {
			step(NativeWait(t.Context(), h.config(), dir))
			step(NativeReady(t.Context(), h.config(), func() bool { return true }))
			if s := h.state(); s.State != api.RunRunning || !s.Ready || s.Restarts != i {
				t.Errorf("it runs as %+v", s)
			}
			time.Sleep(time.Second)
			step(NativeStop(h.config(), ""))
			step(NativeEnded(h.config(), NativeExit{"exit-code", "exited", "3"}))
		}
		if s := h.state(); s.State != api.RunBackOff || s.ExitCode != 3 || !strings.Contains(s.Message, "next try in 4s") {
			t.Errorf("it ended as %+v", s)
		}
		if took := time.Since(start); took != 6*time.Second {
			t.Errorf("three runs took %v; want three of 1 s, and back-offs of 1 s and 2 s", took)
		}
		step(NativeWait(t.Context(), h.config(), dir))
		step(NativeReady(t.Context(), h.config(), func() bool { return true }))
		step(NativeStop(h.config(), "42"))
		step(NativeEnded(h.config(), NativeExit{"success", "killed", "TERM"}))
		if s := h.state(); s.State != api.RunStopped {
			t.Errorf("stopped, it is %+v", s)
		}
		c.Ready = &api.Check{TCP: &api.TCPCheck{Port: 1}}
		c.Name = "main"
		h.pod(nil, c)
		dies := time.Now().Add(time.Second)
		if err := NativeReady(t.Context(), h.config(), func() bool { return time.Now().Before(dies) }); !errors.Is(err, errProgramEnded) {
			t.Errorf("of a program that ends before it is ready: %v", err)
		}
		step(NativeEnded(h.config(), NativeExit{"exit-code", "exited", "1"}))
		if s := h.state(); s.State != api.RunBackOff {
			t.Errorf("ended before it was ready, it is %+v", s)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := NativeWait(ctx, h.config(), dir); err != nil && h.state().State != api.RunStopped {
			t.Errorf("stopped while it waited: %v, %+v", err, h.state())
		}
	})
}
