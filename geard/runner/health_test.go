package runner

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/engine/enginetest"
)

// answers makes the check whose first word is a name pass or fail.
type answers map[string]*atomic.Bool

func (a answers) exit(argv []string) int {
	if a[argv[0]].Load() {
		return 0
	}
	return 1
}

func asked(names ...string) answers {
	a := answers{}
	for _, n := range names {
		a[n] = &atomic.Bool{}
	}
	return a
}

func TestLivenessStartsTheContainerAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sh("p")
		c.Live = &api.Check{Command: []string{"live"}, Delay: api.Duration(5 * time.Second)}
		h := newHost(t, c, nil)
		a := asked("live")
		a["live"].Store(true)
		h.engine.ExecExit = a.exit
		start := time.Now()
		done := h.run(t.Context())
		time.Sleep(20 * time.Second)
		a["live"].Store(false)
		<-done
		if ran := time.Since(start); ran < 24*time.Second || ran > 28*time.Second {
			t.Errorf("it ran for %v; want it stopped after three failures, 2 s apart", ran)
		}
		s := h.state()
		if s.State != api.RunBackOff || s.Reason != api.ReasonUnhealthy || !strings.Contains(s.Message, "asked 3 times") || !strings.Contains(s.Message, "next try in 1s") {
			t.Errorf("state is %+v", s)
		}
		if got := h.engine.Calls(); !slices.Contains(got, "stop "+testName) || got[len(got)-1] != "remove "+testName {
			t.Errorf("calls are %q", got)
		}
		// The next run is one that was waited for, and says why.
		a["live"].Store(true)
		ctx, cancel := context.WithCancel(t.Context())
		done = h.run(ctx)
		time.Sleep(10 * time.Second)
		if s := h.state(); s.State != api.RunRunning || !s.Ready || s.Restarts != 1 || s.Reason != api.ReasonUnhealthy {
			t.Errorf("the next run is %+v", s)
		}
		cancel()
		<-done
	})
}

// A container that looks well for two minutes each time and then hangs backs off all the same.
func TestLivenessBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sh("p")
		c.Live = &api.Check{Command: []string{"live"}, Delay: api.Duration(2 * time.Minute), Failures: 1}
		h := newHost(t, c, nil)
		h.engine.ExecExit = asked("live").exit
		for range 3 {
			<-h.run(t.Context())
		}
		if s := h.state(); !strings.Contains(s.Message, "next try in 4s") {
			t.Errorf("state is %+v", s)
		}
	})
}

func TestStartupComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sh("p")
		c.Startup = &api.Check{Command: []string{"startup"}}
		c.Ready = &api.Check{Command: []string{"ready"}}
		c.Live = &api.Check{Command: []string{"live"}}
		h := newHost(t, c, nil)
		a := asked("startup", "ready", "live")
		h.engine.ExecExit = a.exit
		ctx, cancel := context.WithCancel(t.Context())
		done := h.run(ctx)
		time.Sleep(50 * time.Second)
		if s := h.state(); s.State != api.RunRunning || s.Ready || s.Reason != api.ReasonNotReady || h.told("READY=1") {
			t.Errorf("while it starts: %+v", s)
		}
		for _, n := range []string{"startup", "ready", "live"} {
			a[n].Store(true)
		}
		time.Sleep(3 * time.Second)
		if s := h.state(); !s.Ready || !h.told("READY=1") {
			t.Errorf("started: %+v", s)
		}
		cancel()
		<-done
	})
}

func TestStartupThatTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sh("p")
		c.Startup = &api.Check{Command: []string{"startup"}, Failures: 10}
		h := newHost(t, c, nil)
		h.engine.ExecExit = asked("startup").exit
		start := time.Now()
		<-h.run(t.Context())
		if ran := time.Since(start); ran < 17*time.Second || ran > 21*time.Second {
			t.Errorf("it was given %v; want 10 failures, 2 s apart", ran)
		}
		if s := h.state(); s.Reason != api.ReasonUnhealthy || !strings.Contains(s.Message, "has not started") {
			t.Errorf("state is %+v", s)
		}
	})
}

func TestWatchdogIsFedWhileLivenessIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sh("p")
		c.Live = &api.Check{Command: []string{"live"}}
		h := newHost(t, c, map[string]enginetest.Program{})
		a := asked("live")
		a["live"].Store(true)
		h.engine.ExecExit = a.exit
		config := h.config()
		config.Watchdog = time.Minute
		r, err := load(config)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		stop := r.feeding(ctx)
		done := make(chan struct{})
		go func() { defer close(done); _, _ = r.start(ctx) }()
		time.Sleep(61 * time.Second)
		if !h.told("WATCHDOG=1") {
			t.Error("the watchdog was not fed")
		}
		now := time.Now()
		if !r.works(now.Add(20*time.Second)) || r.works(now.Add(40*time.Second)) {
			t.Error("a liveness loop that hangs must count as hung after 34 s, and not after 20")
		}
		r.vitals.sick.Store(&illness{since: now})
		if !r.works(now) || r.works(now.Add(stuck+11*time.Second)) {
			t.Error("a container that cannot be stopped must count as hung after its grace and 30 s")
		}
		cancel()
		<-done
		stop()
	})
}

// The health service of the gRPC library is the oracle.
func TestGRPCCheck(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, service := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, service)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })
	service.SetServingStatus("shop.Web", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	bare, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	without := grpc.NewServer()
	ended := make(chan struct{})
	go func() { defer close(ended); _ = without.Serve(bare) }()
	t.Cleanup(func() { without.Stop(); <-ended })

	tests := map[string]struct {
		at      net.Addr
		service string
		want    string
	}{
		"the whole server":     {l.Addr(), "", ""},
		"one that is down":     {l.Addr(), "shop.Web", "the server is NOT_SERVING"},
		"one it does not know": {l.Addr(), "shop.None", "does not know that service"},
		"no health service":    {bare.Addr(), "", "has no grpc.health.v1.Health"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := checker{check: api.Check{GRPC: &api.GRPCCheck{Port: 1, Service: tt.service}}, hosts: []string{"127.0.0.1"}}
			c.dial = func(ctx context.Context, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "tcp4", tt.at.String())
			}
			err := c.once(t.Context())
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzHealthResponse(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 2, 8, 1})
	f.Add([]byte{0, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 0, 4, 0x12, 1, 'x', 8})
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := healthResponse(b); err == nil && s == serving && len(b) < 7 {
			t.Errorf("%x counts as serving", b)
		}
	})
}
