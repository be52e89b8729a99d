package enginetest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/geard/engine"
)

// Engine is what the contract is about: what package runner uses.
type Engine interface {
	Inspect(ctx context.Context, idOrName string) (engine.Container, error)
	Create(ctx context.Context, s engine.Spec) (string, error)
	Start(ctx context.Context, id string) error
	Wait(ctx context.Context, id string) (int, error)
	Logs(ctx context.Context, id string, since time.Time, follow bool, each func(engine.Entry) error) error
	Exec(ctx context.Context, id string, argv []string) (int, string, error)
	Stop(ctx context.Context, id string) error
	Remove(ctx context.Context, id string) error
	Ping(ctx context.Context) error
}

var _ Engine = (*Fake)(nil)

// Programs are the contract's programs, for the fake.
func Programs() map[string]Program {
	return map[string]Program{
		"echo one; echo two; exit 3":            {Lines: []string{"one", "two"}, Runs: time.Millisecond, Exit: 3},
		"trap 'exit 143' TERM; sleep 60 & wait": {},
	}
}

// Contract checks an engine that has the image bb:1 with a shell. ready is called with the id of each container before
// its start, for what a host must do then.
func Contract(t *testing.T, e Engine, ready func(id string)) {
	ctx := t.Context()
	made := func(t *testing.T, name, shell string) string {
		t.Helper()
		id, err := e.Create(ctx, Spec(name, shell))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Remove(context.WithoutCancel(ctx), id) })
		ready(id)
		return id
	}
	started := func(t *testing.T, name, shell string) string {
		t.Helper()
		id := made(t, name, shell)
		if err := e.Start(ctx, id); err != nil {
			t.Fatal(err)
		}
		return id
	}
	const ends, stays = "echo one; echo two; exit 3", "trap 'exit 143' TERM; sleep 60 & wait"

	t.Run("a container that ends", func(t *testing.T) {
		id := started(t, "ends", ends)
		code, err := e.Wait(ctx, id)
		if code != 3 || err != nil {
			t.Fatalf("Wait gives %d, %v; want 3", code, err)
		}
		if code, err := e.Wait(ctx, id); code != 3 || err != nil {
			t.Errorf("a second Wait gives %d, %v; want 3 at once", code, err)
		}
		c, err := e.Inspect(ctx, "contract.ends")
		if err != nil || c.ID != id || c.Running || c.ExitCode != 3 || c.Started.IsZero() || c.Labels[engine.LabelUID] != "u" {
			t.Errorf("Inspect gives %+v, %v", c, err)
		}
	})
	t.Run("its output, whole and from a point on", func(t *testing.T) {
		id := started(t, "output", ends)
		var lines []string
		var second time.Time
		read := func(e engine.Entry) error {
			lines, second = append(lines, string(e.Text)), e.Time
			return nil
		}
		if err := e.Logs(ctx, id, time.Time{}, true, read); err != nil || strings.Join(lines, "") != "one\ntwo\n" {
			t.Fatalf("got %q, %v", lines, err)
		}
		from := second
		lines = nil
		if err := e.Logs(ctx, id, from, false, read); err != nil || len(lines) == 0 || lines[len(lines)-1] != "two\n" {
			t.Errorf("from the second line on: %q, %v; the bound is inclusive", lines, err)
		}
	})
	t.Run("a name is given once", func(t *testing.T) {
		made(t, "twice", stays)
		if _, err := e.Create(ctx, Spec("twice", stays)); !errors.Is(err, engine.ErrExists) {
			t.Errorf("got %v, want ErrExists", err)
		}
	})
	t.Run("an image that is not there", func(t *testing.T) {
		s := Spec("noimage", ends)
		s.Image = "nosuch.invalid/image:1"
		if _, err := e.Create(ctx, s); !errors.Is(err, engine.ErrNoImage) {
			t.Errorf("got %v, want ErrNoImage", err)
		}
	})
	t.Run("stop, exec and remove", func(t *testing.T) {
		id := started(t, "stop", stays)
		if c, err := e.Inspect(ctx, id); err != nil || !c.Running || c.Pid == 0 {
			t.Fatalf("Inspect gives %+v, %v; want it running", c, err)
		}
		if code, _, err := e.Exec(ctx, id, []string{"/bin/true"}); code != 0 || err != nil {
			t.Errorf("Exec gives %d, %v", code, err)
		}
		if err := e.Stop(ctx, id); err != nil {
			t.Fatal(err)
		}
		if code, err := e.Wait(ctx, id); code != 143 || err != nil {
			t.Errorf("Wait gives %d, %v; want 143 of its own making", code, err)
		}
		if err := errors.Join(e.Remove(ctx, id), e.Remove(ctx, id)); err != nil {
			t.Errorf("removing twice: %v", err)
		}
	})
	t.Run("a container that is not there", func(t *testing.T) {
		_, inspect := e.Inspect(ctx, "contract.none")
		_, wait := e.Wait(ctx, "contract.none")
		for what, err := range map[string]error{"Inspect": inspect, "Wait": wait, "Start": e.Start(ctx, "contract.none"), "Stop": e.Stop(ctx, "contract.none")} {
			if !errors.Is(err, engine.ErrNoContainer) {
				t.Errorf("%s gives %v, want ErrNoContainer", what, err)
			}
		}
	})
	t.Run("who gives up waiting", func(t *testing.T) {
		id := started(t, "patience", stays)
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := e.Wait(ctx, id); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	})
}

// Spec gives a container of the contract that runs a shell text.
func Spec(name, shell string) engine.Spec {
	return engine.Spec{Name: "contract." + name, Image: "bb:1", Command: []string{"/bin/sh", "-c", shell},
		Labels: map[string]string{engine.LabelUID: "u"}, StopGrace: 5 * time.Second}
}
