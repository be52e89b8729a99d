package router_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/freeport"
	"gearmesh.dev/router"
)

// haproxy is a Supervisor that does what systemd would: it runs "haproxy -W", sends SIGUSR2 for a
// reload, and starts it again when it dies.
type haproxy struct {
	t       *testing.T
	file    string
	mu      sync.Mutex
	cmd     *exec.Cmd
	reloads atomic.Int64
	wg      sync.WaitGroup
}

func (h *haproxy) Start(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cmd != nil {
		return nil
	}
	cmd := exec.Command("haproxy", "-W", "-f", h.file, "-S", filepath.Join(filepath.Dir(h.file), "m"))
	out, err := os.OpenFile(filepath.Join(filepath.Dir(h.file), "haproxy.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return err
	}
	h.cmd = cmd
	h.wg.Go(func() {
		_ = cmd.Wait()
		h.mu.Lock()
		defer h.mu.Unlock()
		h.cmd = nil
	})
	return nil
}

func (h *haproxy) Reload(context.Context) error {
	h.reloads.Add(1)
	return h.signal(syscall.SIGUSR2)
}

func (h *haproxy) signal(s syscall.Signal) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cmd == nil {
		return errors.New("haproxy does not run")
	}
	return h.cmd.Process.Signal(s)
}

// end ends HAProxy as systemd would. Its master loses a SIGTERM that comes while it executes itself anew for a reload.
func (h *haproxy) end() {
	for h.signal(syscall.SIGTERM) == nil {
		time.Sleep(50 * time.Millisecond)
	}
	h.wg.Wait()
}

// bench is a router under test, its HAProxy, and what feeds it.
type bench struct {
	t        *testing.T
	settings router.Settings
	ha       *haproxy
	news     chan api.Directory
	stop     func()
	log      *logs
}

// logs keeps what was logged, to wait for.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), s)
}

// newBench makes a router with HAProxy on a free port of loopback.
func newBench(t *testing.T, with ...func(*router.Settings)) *bench {
	t.Helper()
	bind := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freeport.Row(t, 1))
	dir := t.TempDir()
	b := &bench{t: t, log: &logs{}, settings: router.Settings{Bind: []netip.AddrPort{bind}, Dir: dir, Socket: filepath.Join(dir, "s"), User: "haproxy", Chroot: "/var/lib/haproxy"}}
	for _, f := range with {
		f(&b.settings)
	}
	b.ha = &haproxy{t: t, file: b.settings.File()}
	b.start(b.settings)
	t.Cleanup(func() {
		b.stop()
		b.ha.end()
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(dir, "haproxy.log"))
			t.Logf("%s", text[max(0, len(text)-4000):])
			b.log.mu.Lock()
			t.Log(b.log.text.String())
			b.log.mu.Unlock()
		}
	})
	return b
}

// spares sets how many spares there are.
func spares(n int) func(*router.Settings) { return func(s *router.Settings) { s.Spares = n } }

// start runs the daemon, as after a restart of geard.
func (b *bench) start(s router.Settings, with ...func(*router.Options)) {
	ctx, cancel := context.WithCancel(context.Background())
	b.news = make(chan api.Directory)
	news := b.news
	done := make(chan error, 1)
	opts := router.Options{Settings: s, Supervisor: b.ha, Period: 50 * time.Millisecond, Audit: 200 * time.Millisecond, MinReload: 50 * time.Millisecond, Retry: 200 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Directory: func(ctx context.Context) iter.Seq[api.Directory] {
			return func(yield func(api.Directory) bool) {
				for {
					select {
					case <-ctx.Done():
						return
					case d := <-news:
						if !yield(d) {
							return
						}
					}
				}
			}
		}}
	for _, f := range with {
		f(&opts)
	}
	go func() { done <- router.Run(ctx, opts) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("Run: %v", err)
		}
	})
}

// get asks for a host name on a fresh connection and gives status and body.
func (b *bench) get(host string) (int, string) {
	req, err := http.NewRequest(http.MethodGet, "http://"+b.settings.Bind[0].String(), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Host = host
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// eventually waits until a host name answers with a text.
func (b *bench) eventually(host, want string) {
	b.t.Helper()
	b.until(fmt.Sprintf("%s to answer %q", host, want), func() bool {
		_, body := b.get(host)
		return body == want
	})
}

func (b *bench) until(what string, ok func() bool) {
	b.t.Helper()
	for end := time.Now().Add(3 * time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// runtime asks HAProxy itself.
func (b *bench) runtime(command string) string {
	b.t.Helper()
	c, err := net.Dial("unix", b.settings.Socket)
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "%s\n", command)
	out, err := io.ReadAll(c)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(out)
}

func (b *bench) pid() (pid string) {
	for line := range strings.Lines(b.runtime("show info")) {
		if rest, ok := strings.CutPrefix(line, "Pid: "); ok {
			pid = strings.TrimSpace(rest)
		}
	}
	return pid
}

// app serves a name on loopback.
func app(t *testing.T, name string) netip.AddrPort {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) }))
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

// city is a directory of a host on loopback: services of project p, each with endpoints, and an
// alias NAME.test for each.
func city(services map[api.Name][]netip.AddrPort) api.Directory {
	d := api.Directory{Hosts: []api.HostEntry{{Name: "h", Address: addr("127.0.0.1")}}, Endpoints: []api.HostEndpoints{{Host: "h"}}}
	for name, ends := range services {
		d.Services = append(d.Services, api.ServiceEntry{Project: "p", Name: name, Ports: []api.Port{{Name: "main", Port: 80, Protocol: api.TCP}}})
		d.Aliases = append(d.Aliases, api.AliasEntry{Host: api.Hostname(name + ".test"), Project: "p", Service: name, Port: "main"})
		for _, e := range ends {
			d.Endpoints[0].Endpoints = append(d.Endpoints[0].Endpoints, api.Endpoint{Project: "p", Service: name, Port: "main", Protocol: api.TCP, Ready: true, Address: e})
		}
	}
	return d
}

type ports = map[api.Name][]netip.AddrPort

func TestUnknownHostsGet404(t *testing.T) {
	b := newBench(t)
	const nobody = "gear: no service has this host name\n"
	b.eventually("nobody.test", nobody)
	b.news <- city(ports{"web": {app(t, "web")}, "idle": nil})
	b.eventually("web.test", "web")
	for host, want := range map[string]string{
		"WEB.test": "web", "web.test.:8080": "web", "web.test:1": "web",
		"nobody.test": nobody, "be_p.web.main": nobody, "web.test, x": nobody, "127.0.0.1": nobody, "[::1]:80": nobody,
		"idle.test": "gear: no pod of this service is ready\n",
	} {
		b.eventually(host, want) // the services of a directory come one after the other
	}
	if code, _ := b.get("nobody.test"); code != http.StatusNotFound {
		t.Errorf("status %d", code)
	}
}

func TestEndpointsAndAliasesChangeWithoutReload(t *testing.T) {
	b := newBench(t)
	one, two := app(t, "one"), app(t, "two")
	b.news <- city(ports{"web": {one}, "api": {two}})
	b.eventually("web.test", "one")
	pid, reloads := b.pid(), b.ha.reloads.Load()

	b.news <- city(ports{"web": {two}, "api": {two}})
	b.eventually("web.test", "two")
	d := city(ports{"web": {one}, "api": {two}})
	d.Aliases = []api.AliasEntry{{Host: "web.test", Project: "p", Service: "api", Port: "main"}, {Host: "new.test", Project: "p", Service: "web", Port: "main"}}
	b.news <- d
	b.eventually("new.test", "one")
	b.eventually("web.test", "two")
	b.eventually("api.test", "gear: no service has this host name\n")
	if b.pid() != pid || b.ha.reloads.Load() != reloads {
		t.Errorf("worker %s became %s, %d reloads", pid, b.pid(), b.ha.reloads.Load()-reloads)
	}
	b.filesAgree()
}

// filesAgree fails unless a HAProxy started from disk would do what the running one does.
func (b *bench) filesAgree() {
	b.t.Helper()
	b.until("the map on disk to be the one that runs", func() bool {
		disk, err := os.ReadFile(b.settings.MapFile())
		if err != nil {
			b.t.Fatal(err)
		}
		lines := 0
		for line := range strings.Lines(b.runtime("show map " + b.settings.MapFile())) {
			_, entry, _ := strings.Cut(strings.TrimSpace(line), " ")
			if entry != "" && !strings.Contains(string(disk), entry+"\n") {
				return false
			}
			if entry != "" {
				lines++
			}
		}
		return lines == strings.Count(string(disk), "\n")
	})
}

func TestRemovedServiceIsGoneAtOnceAndItsBackendLater(t *testing.T) {
	b := newBench(t, spares(1))
	b.news <- city(ports{"web": {app(t, "web")}, "api": {app(t, "api")}})
	b.eventually("api.test", "api")
	b.eventually("web.test", "web")
	b.until("the reload's end", func() bool { return b.home("web") == "be_p.web.main" })
	reloads := b.ha.reloads.Load()
	b.news <- city(ports{"web": {app(t, "web")}})
	b.eventually("api.test", "gear: no service has this host name\n")
	if b.ha.reloads.Load() != reloads {
		t.Error("a removal reloaded HAProxy")
	}
	if !strings.Contains(b.runtime("show servers state"), "be_p.api.main") {
		t.Error("the backend left without a reload?")
	}
	b.news <- city(ports{"web": {app(t, "web")}, "third": {app(t, "third")}, "fourth": {app(t, "fourth")}})
	b.eventually("third.test", "third")
	b.eventually("fourth.test", "fourth")
	b.until("the backend to go with the reload", func() bool { return !strings.Contains(b.runtime("show servers state"), "be_p.api.main") })
}

// load sends requests to a host name from several clients until stop, which gives their number
// and what failed.
func (b *bench) load(host string) (stop func() (int64, []string)) {
	var n atomic.Int64
	var mu sync.Mutex
	var failed []string
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if code, body := b.get(host); code != http.StatusOK {
					mu.Lock()
					failed = append(failed, fmt.Sprintf("%d %s", code, body))
					mu.Unlock()
				}
				n.Add(1)
			}
		})
	}
	return func() (int64, []string) {
		close(done)
		wg.Wait()
		return n.Load(), failed
	}
}

func TestReloadsAndChangesUnderLoadLoseNoRequest(t *testing.T) {
	b := newBench(t, spares(1))
	one, two := app(t, "one"), app(t, "two")
	b.news <- city(ports{"web": {one}})
	b.eventually("web.test", "one")
	first, stop := b.ha.reloads.Load(), b.load("web.test")
	for i := range 10 {
		name, more := api.Name(fmt.Sprintf("new%d", i)), api.Name(fmt.Sprintf("more%d", i)) // the spare is for one of them
		b.news <- city(ports{"web": {one, two}, name: {two}, more: {two}})
		b.eventually(string(name)+".test", "two")
		b.eventually(string(more)+".test", "two")
		b.news <- city(ports{"web": {two}, name: {one}, more: {one}})
		b.eventually(string(name)+".test", "one")
		b.eventually(string(more)+".test", "one")
	}
	n, failed := stop()
	if len(failed) > 0 {
		t.Errorf("%d of %d requests failed: %q", len(failed), n, failed[0])
	}
	if b.ha.reloads.Load() < first+10 {
		t.Errorf("only %d reloads", b.ha.reloads.Load()-first)
	}
}

func TestDeadServersCostNoRequest(t *testing.T) {
	b := newBench(t)
	dead := httptest.NewServer(http.NotFoundHandler())
	deadAt := netip.MustParseAddrPort(dead.Listener.Addr().String())
	dead.Close()
	dying, err := net.Listen("tcp", "127.0.0.1:0") // takes the request and dies
	if err != nil {
		t.Fatal(err)
	}
	defer dying.Close()
	go func() {
		for {
			c, err := dying.Accept()
			if err != nil {
				return
			}
			c.Read(make([]byte, 1))
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	}()
	b.news <- city(ports{"web": {app(t, "web"), deadAt, netip.MustParseAddrPort(dying.Addr().String())}})
	b.eventually("web.test", "web")
	for range 60 {
		if code, body := b.get("web.test"); code != http.StatusOK {
			t.Fatalf("%d %s", code, body)
		}
	}
}

func TestOutgrownSlotsReload(t *testing.T) {
	b := newBench(t)
	var all []netip.AddrPort
	for i := range 9 {
		all = append(all, app(t, fmt.Sprintf("app%d", i)))
	}
	b.news <- city(ports{"web": all[:1]})
	b.eventually("web.test", "app0")
	reloads := b.ha.reloads.Load()
	b.news <- city(ports{"web": all})
	seen := map[string]bool{}
	b.until("answers of all nine", func() bool {
		_, body := b.get("web.test")
		seen[body] = true
		return len(seen) == 9
	})
	if b.ha.reloads.Load() == reloads { // one, or more when HAProxy has lost the signal
		t.Error("there was no reload")
	}
}

func TestBadConfigurationIsRefused(t *testing.T) {
	b := newBench(t)
	one, two := app(t, "one"), app(t, "two")
	b.news <- city(ports{"web": {one}})
	b.eventually("web.test", "one")
	pid := b.pid()
	before, err := os.ReadFile(b.settings.File())
	if err != nil {
		t.Fatal(err)
	}
	b.stop()
	bad := b.settings
	bad.User = "no-such-user"
	b.start(bad)
	b.news <- city(ports{"web": {two}, "more": {one}})
	b.eventually("web.test", "two") // what needs no reload is done
	b.eventually("more.test", "one")
	b.filesAgree()
	b.until("the refusal", func() bool { return b.log.has("no-such-user") })
	after, err := os.ReadFile(b.settings.File())
	if err != nil || string(after) != string(before) || b.pid() != pid {
		t.Errorf("the refused configuration was used: worker %s became %s, %v", pid, b.pid(), err)
	}
	b.stop()
	if err := b.ha.signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.ha.wg.Wait()
	b.start(b.settings) // and a good one is taken, without a word from the agent
	b.eventually("more.test", "one")
}

func TestKilledHAProxyComesBackCurrent(t *testing.T) {
	b := newBench(t)
	one, two := app(t, "one"), app(t, "two")
	b.news <- city(ports{"web": {one}})
	b.eventually("web.test", "one")
	b.news <- city(ports{"web": {two}})
	b.eventually("web.test", "two")
	if err := b.ha.signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.ha.wg.Wait()
	b.eventually("web.test", "two")
}

func TestForeignChangesAreUndone(t *testing.T) {
	b := newBench(t)
	b.news <- city(ports{"web": {app(t, "web")}})
	b.eventually("web.test", "web")
	b.runtime("set server " + b.home("web") + "/s1 state maint")
	b.runtime("del map " + b.settings.MapFile() + " web.test")
	b.eventually("web.test", "web")
	b.runtime("del map " + b.settings.MapFile() + " SPARE_1.") // web moves to another spare, and nothing to its old one
	b.until("the move", func() bool { return b.home("web") == "spare_2" })
	b.eventually("web.test", "web")
}

func TestRouterStartsWithoutAnAgent(t *testing.T) {
	b := newBench(t)
	b.news <- city(ports{"web": {app(t, "web")}})
	b.eventually("web.test", "web")
	b.stop()
	if err := b.ha.signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.ha.wg.Wait()
	if err := os.WriteFile(b.settings.File(), nil, 0o644); err != nil { // what a power cut may leave
		t.Fatal(err)
	}
	b.start(b.settings)
	b.eventually("web.test", "web")
	b.news <- api.Directory{} // an agent that knows nothing yet
	b.until("the warning", func() bool { return b.log.has("has no hosts") })
	b.eventually("web.test", "web")
}

func TestLostDirectoryKeepsWhatRuns(t *testing.T) {
	b := newBench(t)
	b.news <- city(ports{"web": {app(t, "web")}})
	b.eventually("web.test", "web")
	b.stop()
	if err := os.WriteFile(filepath.Join(b.settings.Dir, "directory.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.start(b.settings)
	b.until("the complaint", func() bool { return b.log.has("is lost") })
	b.eventually("web.test", "web")
}
