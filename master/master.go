// Package master is the cluster's master: the HTTP API, the controllers that carry out what it
// was told, and the streams that tell hosts what to do.
//
// All state is in a store.Store. A cache of it (one watch) answers every read; a write goes to the
// store by compare-and-set and is answered when the cache has it, so that whoever writes then
// reads what was written. What people wrote (spec), what hosts said (podstatus, endpoints,
// hostinfo) and what follows from both (statuses, the directory) are kept apart: the last is
// computed by package control when it is read and never stored.
//
// Routes are one table (routes.go): who may call, what is decoded, what is recorded. A request
// reaches its handler only through it.
//
// Of several masters one leads: it alone runs the controllers and hears the hosts. Its writes
// carry the fence of its leadership, so that the store refuses those of a leader that was replaced.
package master

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/maphash"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/loop"
	"gearmesh.dev/internal/pki"
	"gearmesh.dev/master/store"
)

// DefaultListen is where the API is served unless Config says otherwise.
const DefaultListen = ":7443"

// Config is a master's configuration. The zero value of a field is its default where one is named.
type Config struct {
	// Name tells this master from others in the log and in the leader's record; the host's name.
	Name string
	// Version is the program's version, as GET /v1/version answers.
	Version string
	// Listen is the address of the API, host:port; DefaultListen when empty. Listener, when set,
	// is used instead (tests).
	Listen   string
	Listener net.Listener
	// TLS is the server's side: pki.ServerConfig. Needed: hosts are known by their certificates.
	TLS *tls.Config
	// AgentTLS is the client's side, for logs and why: pki.ClientConfig with the master's
	// certificate. The server name is set per host.
	AgentTLS *tls.Config
	// AgentPort is the TCP port of the agents' API; 7444 when 0.
	AgentPort uint16
	// CA signs the certificates of hosts. Needed.
	CA Authority
	// People may use the API, each with a token. Without any, only hosts can.
	People []Person
	// Domain is the cluster's DNS domain, which hosts learn when they join; "gear.internal" when empty.
	Domain api.Hostname
	// Secrets seals secrets. Without it none can be written or used.
	Secrets Sealer
	// Units compares the unit files of two pods that bear one name, for plans; nil leaves units out. unitgen.Changes is one.
	Units func(was, will *api.Pod) ([]api.UnitChange, error)
	// Address is where hosts and people reach this master's API; unset, they are not told of it.
	Address netip.AddrPort
	// Kit gives what another master needs to become one of this cluster, without its seat; nil when none can.
	Kit func() (api.MasterKit, error)
	// TokenLife is how long a join token can be used; 15 minutes when 0.
	TokenLife time.Duration
}

// Authority signs for hosts. *pki.CA is one.
type Authority interface {
	SignHost(csrPEM []byte, name api.Name, address netip.Addr, now time.Time) ([]byte, error)
	PEM() []byte
	Pin() string
}

var _ Authority = (*pki.CA)(nil)

// Master is one master. Use New and Run.
type Master struct {
	cfg     Config
	store   store.Store
	cluster store.Cluster // the same store, when masters keep it themselves; else nil
	log     *slog.Logger
	cache   *cache
	pulses  *pulses

	confirmations *confirmations
	views         *views
	announcer     *announcer
	pages         pages
	agents        *http.Client
	router        *router
	spec          []byte       // the OpenAPI document
	seed          maphash.Seed // of the hashes of reports

	lead      atomic.Pointer[store.Lead] // nil while another leads
	work      loop.Kick                  // wakes the controllers
	notice    loop.Kick                  // wakes the look at statuses
	announces loop.Kick                  // wakes the announcer of the directory
	stopping  chan struct{}              // closed when Run ends: streams end themselves
	sessions  atomic.Int64               // that are open
	watches   atomic.Int64               // that are open
	foresees  chan struct{}              // a token: one plan of an apply is worked out at a time
}

// New makes a master over a store. Run serves it.
func New(cfg Config, s store.Store, logger *slog.Logger) (*Master, error) {
	if cfg.CA == nil || cfg.TLS == nil {
		return nil, errors.New("making a master: Config.CA and Config.TLS are needed")
	}
	if cfg.Listen == "" {
		cfg.Listen = DefaultListen
	}
	if cfg.AgentPort == 0 {
		cfg.AgentPort = 7444
	}
	if cfg.Domain == "" {
		cfg.Domain = "gear.internal"
	}
	if cfg.TokenLife == 0 {
		cfg.TokenLife = 15 * time.Minute
	}
	m := &Master{cfg: cfg, store: s, log: logger, cache: newCache(), pulses: &pulses{}, confirmations: newConfirmations(),
		work: loop.NewKick(), notice: loop.NewKick(), announces: loop.NewKick(), stopping: make(chan struct{}), foresees: make(chan struct{}, 1), seed: maphash.MakeSeed()}
	m.cluster, _ = s.(store.Cluster)
	m.cache.sealer = cfg.Secrets
	m.views = &views{cache: m.cache, pulses: m.pulses, stale: loop.NewKick()}
	m.announcer = newAnnouncer(m.cache, m.views)
	m.agents = m.agentClient()
	auth := &authenticator{people: cfg.People, known: m.cache.keysOf, failures: &failures{}}
	router, spec := newRouter(m.routes(), auth, logger, m.ready)
	m.router = router
	var err error
	if m.spec, err = spec.OpenAPI().MarshalJSON(); err != nil {
		return nil, fmt.Errorf("describing the API: %w", err)
	}
	return m, nil
}

// ServeHTTP implements http.Handler: the API without its listener.
func (m *Master) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.router.ServeHTTP(w, r) }

// Run serves until ctx ends.
func (m *Master) Run(ctx context.Context) error {
	listener, err := m.listen()
	if err != nil {
		return err
	}
	m.pulses.restart()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return m.feed(ctx) })
	group.Go(func() error { m.forward(ctx); return nil })
	group.Go(func() error { m.leadAgain(ctx); return nil })
	group.Go(func() error { m.tellStatuses(ctx); return nil })
	group.Go(func() error { m.refresh(ctx); return nil })
	group.Go(func() error { m.introduce(ctx); return nil })
	group.Go(func() error { return m.serve(ctx, listener) })
	m.log.Info("the master serves its API", "address", listener.Addr().String())
	return group.Wait()
}

func (m *Master) listen() (net.Listener, error) {
	if m.cfg.Listener != nil {
		return m.cfg.Listener, nil
	}
	l, err := net.Listen("tcp", m.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("opening the API's port: %w", err)
	}
	return l, nil
}

// serve runs the HTTP server. All its timeouts are set; streams extend their own.
func (m *Master) serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: m, TLSConfig: m.cfg.TLS, MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: writeTime + 30*time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: log.New(quiet{m.log}, "", 0),
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		<-ctx.Done()
		close(m.stopping)
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if server.Shutdown(end) != nil {
			_ = server.Close()
		}
	})
	err := server.ServeTLS(l, "", "")
	if ctx.Err() == nil {
		return fmt.Errorf("serving the API: %w", err)
	}
	wg.Wait()
	return nil
}

// quiet passes net/http's complaints (bad handshakes, mostly) to the log as debug: anyone on the
// network can cause them.
type quiet struct{ log *slog.Logger }

func (q quiet) Write(p []byte) (int, error) {
	q.log.Debug("http: " + string(p))
	return len(p), nil
}

// feed keeps the cache equal to the store.
func (m *Master) feed(ctx context.Context) error {
	for ctx.Err() == nil {
		items, revision, err := m.store.List(ctx, "")
		if err == nil {
			err = m.cache.fill(items, revision)
		}
		for err == nil {
			err = m.followStore(ctx, &revision)
		}
		if ctx.Err() == nil {
			m.log.Warn("reading the store anew", "error", err)
			loop.Sleep(ctx, time.Second)
		}
	}
	return nil
}

// followStore holds one watch from a revision on. A watch that ended can be taken up again; an error
// means that all must be read anew.
func (m *Master) followStore(ctx context.Context, revision *int64) error {
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	for b := range m.store.Watch(watch, "", *revision) {
		if b.Err != nil && errors.Is(b.Err, store.ErrCompacted) {
			return b.Err
		}
		if b.Err != nil {
			m.log.Warn("the store's watch broke off", "error", b.Err)
			loop.Sleep(ctx, 200*time.Millisecond)
			return ctx.Err()
		}
		if err := m.cache.apply(b); err != nil {
			return err
		}
		*revision = max(*revision, b.Revision)
	}
	return ctx.Err()
}

// forward wakes the loops at each change of the cache.
func (m *Master) forward(ctx context.Context) {
	for {
		m.cache.mu.RLock()
		changed := m.cache.changed
		m.cache.mu.RUnlock()
		select {
		case <-changed:
			m.work.Wake()
			m.notice.Wake()
			m.announces.Wake()
		case <-ctx.Done():
			return
		}
	}
}

const (
	// noticeRest is how many times longer than a look at all statuses took the next one waits.
	noticeRest = 9
	// noticeIdle is how long no look is taken while nobody watches. The next one that does is told what has changed since.
	noticeIdle = 30 * time.Second
)

// tellStatuses looks for statuses that have become others, for the watches.
func (m *Master) tellStatuses(ctx context.Context) {
	var d derived
	var looked time.Time
	loop.Run(ctx, m.notice, 20*time.Millisecond, time.Second, func(ctx context.Context) {
		if m.watches.Load() == 0 && time.Since(looked) < noticeIdle {
			return
		}
		start := time.Now()
		looked = start
		v := m.views.recent(m.term())
		m.cache.touch(d.changed(v))
		loop.Sleep(ctx, noticeRest*time.Since(start))
		if v.version != m.cache.versionNow() {
			m.notice.Wake()
		}
	})
}

// term gives the term that this master leads in, or 0.
func (m *Master) term() int64 {
	if l := m.lead.Load(); l != nil {
		return l.Term
	}
	return 0
}

// ready waits a moment for the cache to be filled after a start.
func (m *Master) ready(ctx context.Context) error {
	if m.cache.filled() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if m.cache.wait(ctx, 0) != nil {
		return api.Errorf(api.CodeUnavailable, "the master has not read its store yet; try again")
	}
	return nil
}
