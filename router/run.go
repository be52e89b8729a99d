package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"gearmesh.dev/api"
)

// Supervisor is who runs HAProxy: systemd on a host.
type Supervisor interface {
	// Start starts HAProxy with Settings.File; it does nothing when it runs.
	Start(ctx context.Context) error
	// Reload makes HAProxy's master process read its configuration again, with SIGUSR2. It need not wait.
	Reload(ctx context.Context) error
}

// Options are what the daemon needs. All fields without a default must be given.
type Options struct {
	Settings   Settings
	Directory  func(ctx context.Context) iter.Seq[api.Directory] // every new directory, until ctx ends; see Follow
	Supervisor Supervisor
	Logger     *slog.Logger
	HAProxy    string        // the program that checks configurations; haproxy
	MinReload  time.Duration // shortest time between two reloads; 2s
	Period     time.Duration // how often HAProxy is asked whether it still runs what it should; 1s
	Audit      time.Duration // how often HAProxy is asked for all it runs, so that foreign changes are undone; 30s
	Retry      time.Duration // time until something refused is tried again; 15s
	Still      time.Duration // time without a change after which a reload frees spares, when half are taken; 10m
}

// Run keeps HAProxy as the directory says until ctx ends. HAProxy itself is left running then, and
// also when no directory can be had: files and processes stay as they are. At the start the directory of the last
// run counts, so that a router comes back without agent and master.
func Run(ctx context.Context, o Options) error {
	o.Settings = o.Settings.Default()
	if err := o.Settings.Validate(); err != nil {
		return err
	}
	if err := os.MkdirAll(o.Settings.Dir, 0o755); err != nil {
		return fmt.Errorf("making the router's directory: %w", err)
	}
	d := newDriver(o)
	d.start()
	feed := &feed{kick: make(chan struct{}, 1)}
	var wg sync.WaitGroup
	wg.Go(func() { feed.fill(o.Directory(ctx)) })
	defer wg.Wait()
	for ctx.Err() == nil {
		if dir, ok := feed.take(); ok {
			d.accept(dir)
		}
		again := d.pass(ctx)
		select {
		case <-ctx.Done():
		case <-feed.kick:
		case <-time.After(again):
		}
	}
	return nil
}

// feed holds the newest directory: a burst of them becomes one pass.
type feed struct {
	kick chan struct{}
	mu   sync.Mutex
	news *api.Directory
}

func (f *feed) fill(seq iter.Seq[api.Directory]) {
	for d := range seq {
		f.mu.Lock()
		f.news = &d
		f.mu.Unlock()
		select {
		case f.kick <- struct{}{}:
		default:
		}
	}
}

func (f *feed) take() (api.Directory, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.news == nil {
		return api.Directory{}, false
	}
	d := *f.news
	f.news = nil
	return d, true
}

// driver brings HAProxy from what it runs to what is wanted, a pass at a time.
type driver struct {
	o        Options
	files    files
	wanted   *Config // nil until a directory is known
	running  Config  // of the worker pid
	pid      int     // 0 when what runs is not known
	learned  time.Time
	reloaded time.Time
	refused  string    // shape that HAProxy refused
	retry    time.Time // when it may be tried again
	changed  time.Time // when something was last to be done
	// ends adds commands that end connections to what goes; nil where they are left to end by themselves.
	ends func(running Config, c *Change)
}

func newDriver(o Options) *driver {
	o.HAProxy = cmp.Or(o.HAProxy, "haproxy")
	o.MinReload = cmp.Or(o.MinReload, 2*time.Second)
	o.Period = cmp.Or(o.Period, time.Second)
	o.Audit = cmp.Or(o.Audit, 30*time.Second)
	o.Retry = cmp.Or(o.Retry, 15*time.Second)
	o.Still = cmp.Or(o.Still, 10*time.Minute)
	return &driver{o: o, changed: time.Now(), files: files{settings: o.Settings, haproxy: o.HAProxy}}
}

// start takes the last run's directory. Without one, and without files to start from, an empty
// directory is wanted: HAProxy then says of every name that nobody has it.
func (d *driver) start() {
	dir, ok, err := d.files.recall()
	if err != nil {
		d.o.Logger.Error("router: the directory of the last run is lost; HAProxy keeps its files until the agent sends one", "err", err)
	}
	if ok || !d.files.exist() {
		d.want(dir)
	}
}

// accept takes a new directory. One without hosts is not believed: a cluster that has this router
// has a host, so it is an agent that knows nothing yet.
func (d *driver) accept(dir api.Directory) {
	if len(dir.Hosts) == 0 && d.wanted != nil && len(d.wanted.Backends) > 0 {
		d.o.Logger.Warn("router: the agent's directory has no hosts; what runs is kept")
		return
	}
	d.want(dir)
	if err := d.files.remember(dir); err != nil {
		d.o.Logger.Error("router: the directory could not be kept for the next start", "err", err)
	}
}

// maxLogged bounds what is logged of the parts left out: a hostile host may announce any number.
const maxLogged = 20

func (d *driver) want(dir api.Directory) {
	c := Render(dir, d.o.Settings)
	if d.wanted == nil || !slices.Equal(c.Skipped, d.wanted.Skipped) {
		for _, s := range c.Skipped[:min(len(c.Skipped), maxLogged)] {
			d.o.Logger.Warn("router: left out", "what", s, "all", len(c.Skipped))
		}
	}
	d.wanted = &c
}

// pass does what is to be done and gives the time until the next one. Errors are logged here: the
// loop goes on whatever happens.
func (d *driver) pass(ctx context.Context) time.Duration {
	s, err := d.connect(ctx)
	if err != nil {
		if ctx.Err() == nil {
			d.o.Logger.Error("router: HAProxy cannot be reached", "err", err)
		}
		return d.o.Period
	}
	defer s.close()
	if d.wanted == nil {
		return d.o.Period
	}
	d.askIdle(s)
	change := Diff(d.running, *d.wanted)
	if d.ends != nil {
		d.ends(d.running, &change)
	}
	d.settle(&change)
	d.save(ctx, change)
	if err := d.send(s, &change); err != nil {
		d.o.Logger.Warn("router: reloading instead", "err", err)
	}
	if !change.Reload {
		return d.o.Period
	}
	return d.reload(ctx, s.pid, change)
}

// connect opens a session, starting HAProxy when it does not run, and learns what it runs when
// another worker answers than the last time, or when that was long ago.
func (d *driver) connect(ctx context.Context) (*session, error) {
	s, err := openSession(ctx, d.o.Settings.Socket)
	if err != nil {
		if s, err = d.revive(ctx); err != nil {
			return nil, err
		}
	}
	if s.pid == d.pid && time.Since(d.learned) < d.o.Audit {
		return s, nil
	}
	d.pid = 0
	if d.running, err = s.running(d.o.Settings.MapFile()); err != nil {
		s.close()
		return nil, err
	}
	d.pid, d.learned = s.pid, time.Now()
	return s, nil
}

// revive writes the files and starts HAProxy.
func (d *driver) revive(ctx context.Context) (*session, error) {
	d.pid = 0
	if d.wanted != nil {
		d.put(ctx, *d.wanted)
	}
	if err := d.o.Supervisor.Start(ctx); err != nil {
		return nil, fmt.Errorf("starting HAProxy: %w", err)
	}
	return d.await(ctx, startTime, func(*session) bool { return true })
}

// askIdle asks whether spares without servers are without requests too, so that they can be used again.
func (d *driver) askIdle(s *session) {
	for i, b := range d.running.Backends {
		if !b.draining() {
			continue
		}
		idle, err := s.idle(b.ID)
		if err != nil {
			d.o.Logger.Warn("router: a spare backend stays taken", "backend", b.ID, "err", err)
		}
		d.running.Backends[i].Idle = idle
	}
}

// settle asks for a reload when nothing has changed for long and the spares run low: the next burst of new services
// then finds them free.
func (d *driver) settle(change *Change) {
	if !change.Empty() {
		d.changed = time.Now()
		return
	}
	if all, taken := d.running.spares(); taken > 0 && 2*taken >= all && time.Since(d.changed) >= d.o.Still {
		change.Reload, change.Reason = true, ReasonStill
	}
}

// save keeps the files current, so that HAProxy is right also when somebody else starts it. With a reload ahead they
// have the backends as rendered; otherwise, or when that is refused, they are what runs after the commands. Those have
// the same shape as before, so a new service in a spare costs no check.
func (d *driver) save(ctx context.Context, change Change) {
	c := change.After
	if change.Reload {
		c = *d.wanted
	}
	if d.put(ctx, c) || !change.Reload {
		return
	}
	if err := d.keep(ctx, change.After); err != nil && ctx.Err() == nil {
		d.o.Logger.Error("router: the files are older than what HAProxy runs", "err", err)
	}
}

// put writes a configuration and tells whether the files are current with it. One that HAProxy refuses is not tried
// again at each pass.
func (d *driver) put(ctx context.Context, c Config) bool {
	shape := c.shape()
	held := shape == d.refused && time.Now().Before(d.retry)
	if held && d.files.checked != shape {
		return false
	}
	if !held {
		d.refused = ""
	}
	err := d.files.write(ctx, c)
	if err != nil && ctx.Err() == nil {
		d.o.Logger.Error("router: the new configuration is not used; HAProxy runs on with the old one", "err", err)
		d.refused, d.retry = shape, time.Now().Add(d.o.Retry)
	}
	return err == nil
}

// keep writes what runs, as far as it is certain that HAProxy starts from it: with another head, only the map.
func (d *driver) keep(ctx context.Context, running Config) error {
	if running.HeadID == d.wanted.HeadID && running.shape() == d.files.checked {
		return d.files.write(ctx, running)
	}
	return d.files.replace(d.o.Settings.MapFile(), running.Map())
}

// send carries out the commands. When one is not answered as it should be, what runs is no longer
// known, and the rest is left to a reload.
func (d *driver) send(s *session, change *Change) error {
	for _, c := range change.Commands {
		if err := s.do(c); err != nil {
			d.pid = 0
			change.Reload, change.Reason = true, ReasonUnexpected
			return err
		}
	}
	if len(change.Commands) > 0 {
		d.o.Logger.Debug("router: changed without a reload", "commands", len(change.Commands))
	}
	d.running = change.After
	return nil
}

// reload makes HAProxy read its files, at most once in MinReload, and waits until the new worker
// answers in place of the one with the pid old, which serves its connections to their end.
func (d *driver) reload(ctx context.Context, old int, change Change) time.Duration {
	if d.refused != "" {
		return d.o.Period
	}
	if wait := time.Until(d.reloaded.Add(d.o.MinReload)); wait > 0 {
		return min(wait, d.o.Period)
	}
	d.o.Logger.Info("router: reloading HAProxy", "reason", change.Reason, "backend", change.What)
	d.reloaded = time.Now()
	s, err := d.swap(ctx, old)
	if err != nil {
		d.pid, d.refused, d.retry = 0, d.wanted.shape(), time.Now().Add(d.o.Retry)
		d.o.Logger.Error("router: HAProxy did not take the new configuration", "err", err)
		return d.o.Period
	}
	s.close()
	return 0
}

// swap reloads and waits for the new worker. A signal that arrives while HAProxy's master has
// hardly begun can get lost (seen with 2.6), so it is sent again.
func (d *driver) swap(ctx context.Context, old int) (s *session, err error) {
	for _, within := range []time.Duration{reloadTime / 8, reloadTime / 2, reloadTime} {
		if err := d.o.Supervisor.Reload(ctx); err != nil {
			return nil, fmt.Errorf("reloading HAProxy: %w", err)
		}
		if s, err = d.await(ctx, within, func(s *session) bool { return s.pid != old && s.head == d.wanted.HeadID }); err == nil {
			return s, nil
		}
	}
	return nil, err
}

// How long HAProxy may take to answer after a start, before it is started again, and after a
// reload, with 100,000 slots.
const (
	startTime  = 5 * time.Second
	reloadTime = 16 * time.Second
)

// await connects until a worker answers that is the right one.
func (d *driver) await(ctx context.Context, within time.Duration, right func(*session) bool) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	last := errors.New("the old worker still answers")
	for {
		s, err := openSession(ctx, d.o.Settings.Socket)
		switch {
		case err == nil && right(s):
			return s, nil
		case err == nil:
			s.close()
		default:
			last = err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for HAProxy: %w", last)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
