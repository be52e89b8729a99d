// Package enginetest has a container engine in memory and the contract that it and the real
// one both keep.
package enginetest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"gearmesh.dev/geard/engine"
)

// Program is what a container does when its command's last word is the program's shell text.
type Program struct {
	Lines []string      // written to stdout at the start
	Runs  time.Duration // until it ends by itself; 0 means until it is stopped
	Exit  int
	OOM   bool
}

// Fake is an engine in memory. The zero value is none: use New.
type Fake struct {
	// Images are the images that are there.
	Images []string
	// Programs are known by their shell text.
	Programs map[string]Program
	// ExecExit gives the exit code of a command run in a container.
	ExecExit func(argv []string) int
	// FailStart, when set, is what Start fails with.
	FailStart error

	mu      sync.Mutex
	down    bool
	nextID  int
	all     map[string]*container
	changed chan struct{} // closed and replaced at every change
	calls   []string
}

type container struct {
	engine.Container
	spec    engine.Spec
	program Program
	entries []engine.Entry
	timer   *time.Timer
}

// New makes an engine with one image, "bb:1".
func New(programs map[string]Program) *Fake {
	return &Fake{Images: []string{"bb:1"}, Programs: programs, all: map[string]*container{}, changed: make(chan struct{}),
		ExecExit: func([]string) int { return 0 }}
}

// SetDown makes the engine unreachable, or reachable again. Containers run on. Calls that wait get ErrDown.
func (f *Fake) SetDown(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
	f.changeLocked()
}

// Calls gives the calls that changed something, in order: "create NAME", "start NAME", …
func (f *Fake) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Write makes a running container write a line.
func (f *Fake) Write(name, line string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.findLocked(name); c != nil {
		c.writeLocked(line)
		f.changeLocked()
	}
}

func (c *container) writeLocked(line string) {
	c.entries = append(c.entries, engine.Entry{Time: time.Now(), Text: []byte(line + "\n")})
}

func (f *Fake) changeLocked() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *Fake) findLocked(idOrName string) *container {
	if c := f.all[idOrName]; c != nil {
		return c
	}
	for _, c := range f.all {
		if c.spec.Name == idOrName {
			return c
		}
	}
	return nil
}

// need locks the engine and finds a container; unlock is to be called in any case.
func (f *Fake) need(idOrName string) (*container, error) {
	if f.down {
		return nil, engine.ErrDown
	}
	if c := f.findLocked(idOrName); c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("container %q: %w", idOrName, engine.ErrNoContainer)
}

// Ping implements runner.Engine, as do the methods below.
func (f *Fake) Ping(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return engine.ErrDown
	}
	return nil
}

// Create makes a container.
func (f *Fake) Create(_ context.Context, s engine.Spec) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.down:
		return "", engine.ErrDown
	case !slices.Contains(f.Images, s.Image):
		return "", fmt.Errorf("image %q: %w", s.Image, engine.ErrNoImage)
	case f.findLocked(s.Name) != nil:
		return "", fmt.Errorf("container %q: %w", s.Name, engine.ErrExists)
	}
	f.nextID++
	id := fmt.Sprintf("%064x", f.nextID)
	c := &container{spec: s, Container: engine.Container{ID: id, Labels: s.Labels}}
	if words := append(slices.Clone(s.Command), s.Args...); len(words) > 0 {
		c.program = f.Programs[words[len(words)-1]]
	}
	f.all[id] = c
	f.calls = append(f.calls, "create "+s.Name)
	return id, nil
}

// Start starts a container.
func (f *Fake) Start(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.need(id)
	if err = cmp.Or(err, f.FailStart); err != nil {
		return err
	}
	f.calls = append(f.calls, "start "+c.spec.Name)
	c.Running, c.Started, c.Pid = true, time.Now(), 1<<30+f.nextID // no process of this machine
	for _, l := range c.program.Lines {
		c.writeLocked(l)
	}
	if c.program.Runs > 0 {
		c.timer = time.AfterFunc(c.program.Runs, func() { f.end(id, c.program.Exit, c.program.OOM) })
	}
	f.changeLocked()
	return nil
}

func (f *Fake) end(id string, code int, oom bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.all[id]; c != nil && c.Running {
		c.Running, c.Pid, c.ExitCode, c.OOMKilled, c.Finished = false, 0, code, oom, time.Now()
		f.changeLocked()
	}
}

// Inspect describes a container.
func (f *Fake) Inspect(_ context.Context, idOrName string) (engine.Container, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.need(idOrName)
	if err != nil {
		return engine.Container{}, err
	}
	return c.Container, nil
}

// Wait waits for the end of a container.
func (f *Fake) Wait(ctx context.Context, id string) (int, error) {
	for {
		f.mu.Lock()
		c, err := f.need(id)
		changed := f.changed
		if err != nil || !c.Running {
			code := 0
			if c != nil {
				code = c.ExitCode
			}
			f.mu.Unlock()
			return code, err
		}
		f.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// Logs passes output on.
func (f *Fake) Logs(ctx context.Context, id string, since time.Time, follow bool, each func(engine.Entry) error) error {
	for sent := 0; ; {
		f.mu.Lock()
		c, err := f.need(id)
		if err != nil {
			f.mu.Unlock()
			return err
		}
		entries, running, changed := slices.Clone(c.entries[sent:]), c.Running, f.changed
		f.mu.Unlock()
		for _, e := range entries {
			sent++
			if e.Time.Before(since) {
				continue
			}
			if err := each(e); err != nil {
				return err
			}
		}
		if !running || !follow {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Exec runs a command.
func (f *Fake) Exec(_ context.Context, id string, argv []string) (int, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.need(id); err != nil {
		return 0, "", err
	}
	return f.ExecExit(argv), "", nil
}

// Stop ends a container; the fake's programs end at the signal, with status 143.
func (f *Fake) Stop(_ context.Context, id string) error {
	f.mu.Lock()
	c, err := f.need(id)
	if err == nil {
		f.calls = append(f.calls, "stop "+c.spec.Name)
	}
	f.mu.Unlock()
	if err == nil {
		f.end(c.ID, 143, false)
	}
	return err
}

// Remove takes a container away.
func (f *Fake) Remove(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return engine.ErrDown
	}
	if c := f.findLocked(id); c != nil {
		if c.timer != nil {
			c.timer.Stop()
		}
		f.calls = append(f.calls, "remove "+c.spec.Name)
		delete(f.all, c.ID)
		f.changeLocked()
	}
	return nil
}
