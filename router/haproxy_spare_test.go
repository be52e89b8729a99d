package router_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/router"
)

// home asks HAProxy which backend a service of project p lives in.
func (b *bench) home(service api.Name) string {
	for line := range strings.Lines(b.runtime("show map " + b.settings.MapFile())) {
		if f := strings.Fields(line); len(f) == 3 && f[2] == "be_p."+string(service)+".main" {
			if spare, ok := strings.CutPrefix(strings.TrimSuffix(f[1], "."), "SPARE_"); ok {
				return "spare_" + spare
			}
			return f[2]
		}
	}
	return ""
}

// settled waits until HAProxy runs with spares, and gives its worker's pid and the reloads so far.
func (b *bench) settled() (string, int64) {
	b.t.Helper()
	b.eventually("nobody.test", "gear: no service has this host name\n")
	return b.pid(), b.ha.reloads.Load()
}

// kill ends HAProxy, master and worker, as kill -9 and a power cut would.
func (b *bench) kill() {
	b.t.Helper()
	var worker int
	if _, err := fmt.Sscan(b.pid(), &worker); err != nil {
		b.t.Fatal(err)
	}
	if err := b.ha.signal(syscall.SIGKILL); err != nil {
		b.t.Fatal(err)
	}
	_ = syscall.Kill(worker, syscall.SIGKILL) // it may have followed its master already
	b.ha.wg.Wait()
}

func newName(i int) api.Name { return api.Name(fmt.Sprintf("new%d", i)) }

func TestNewServicesNeedNoReload(t *testing.T) {
	b := newBench(t)
	pid, reloads := b.settled()
	all := ports{}
	for i := range 10 {
		all[newName(i)] = []netip.AddrPort{app(t, string(newName(i)))}
		b.news <- city(all)
		b.eventually(string(newName(i))+".test", string(newName(i)))
	}
	d := city(all)
	d.Aliases = append(d.Aliases, api.AliasEntry{Host: "alias.test", Project: "p", Service: "new3", Port: "main"})
	b.news <- d
	b.eventually("alias.test", "new3")
	if b.pid() != pid || b.ha.reloads.Load() != reloads {
		t.Errorf("worker %s became %s, %d reloads", pid, b.pid(), b.ha.reloads.Load()-reloads)
	}
	for _, host := range []string{"spare_1", "SPARE_1", "SPARE_1.", "spare_1.", "be_p.new1.main"} {
		if code, body := b.get(host); code != http.StatusNotFound {
			t.Errorf("host name %q: %d %s", host, code, body)
		}
	}
	b.filesAgree()
}

func TestServiceWithoutASpareReloadsOnce(t *testing.T) {
	b := newBench(t)
	_, reloads := b.settled()
	all := ports{}
	for i := range 16 {
		all[newName(i)] = []netip.AddrPort{app(t, string(newName(i)))}
	}
	b.news <- city(all)
	for i := range 16 {
		b.eventually(string(newName(i))+".test", string(newName(i)))
	}
	if n := b.ha.reloads.Load() - reloads; n != 0 {
		t.Fatalf("%d reloads for 16 services", n)
	}
	stop := b.load("new0.test")
	all["last"] = []netip.AddrPort{app(t, "last")}
	b.news <- city(all)
	b.eventually("last.test", "last")
	b.until("all to be at home", func() bool { return !strings.Contains(b.runtime("show map "+b.settings.MapFile()), "SPARE_") })
	reloads = b.ha.reloads.Load()
	all["next"] = []netip.AddrPort{app(t, "next")}
	b.news <- city(all)
	b.eventually("next.test", "next")
	if n, failed := stop(); len(failed) > 0 {
		t.Errorf("%d of %d requests failed: %q", len(failed), n, failed[0])
	}
	if b.ha.reloads.Load() != reloads || b.home("next") != "spare_1" || b.home("new0") != "be_p.new0.main" {
		t.Errorf("after the reload, the next service is in %q, an old one in %q", b.home("next"), b.home("new0"))
	}
	for i := range 16 {
		b.eventually(string(newName(i))+".test", string(newName(i)))
	}
}

func TestRestartedRouterKnowsWhoLivesInASpare(t *testing.T) {
	b := newBench(t)
	pid, _ := b.settled()
	one, two, three := app(t, "one"), app(t, "two"), app(t, "three")
	b.news <- city(ports{"zed": {one}})
	b.eventually("zed.test", "one")
	b.news <- city(ports{"zed": {one}, "abc": {two}})
	b.eventually("abc.test", "two")
	b.stop()
	b.start(b.settings)
	b.news <- city(ports{"abc": {three}, "zed": {one}, "mid": {two}})
	b.eventually("abc.test", "three")
	b.eventually("zed.test", "one")
	b.eventually("mid.test", "two")
	if got := b.home("zed") + b.home("abc") + b.home("mid"); got != "spare_1spare_2spare_3" || b.pid() != pid {
		t.Errorf("they live in %q; worker %s became %s", got, pid, b.pid())
	}
}

func TestKilledHAProxyServesFromSparesOnDisk(t *testing.T) {
	b := newBench(t)
	_, _ = b.settled()
	b.news <- city(ports{"web": {app(t, "web")}})
	b.eventually("web.test", "web")
	b.filesAgree()
	b.stop() // nobody mends what HAProxy finds
	b.kill()
	if err := b.ha.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.eventually("web.test", "web")
	if b.home("web") != "spare_1" {
		t.Errorf("it lives in %q", b.home("web"))
	}
	b.start(b.settings)
	b.news <- city(ports{"web": {app(t, "renewed")}})
	b.eventually("web.test", "renewed")
}

// TestRemovedServiceFreesItsSpare: at once for host names, and for others when its last request has ended. Until
// then a new service goes elsewhere; and the connections that HAProxy keeps to the old servers are never the new one's.
func TestRemovedServiceFreesItsSpare(t *testing.T) {
	b := newBench(t, spares(2))
	pid, _ := b.settled()
	entered, leave := make(chan struct{}), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			entered <- struct{}{}
			<-leave
		}
		io.WriteString(w, "old")
	}))
	defer slow.Close()
	b.news <- city(ports{"old": {netip.MustParseAddrPort(slow.Listener.Addr().String())}})
	for range 20 {
		b.eventually("old.test", "old")
	}
	answer := make(chan string, 1)
	go func() { answer <- b.post("old.test") }()
	<-entered

	b.news <- city(nil)
	b.eventually("old.test", "gear: no service has this host name\n")
	b.news <- city(ports{"new": {app(t, "new")}})
	b.eventually("new.test", "new")
	if b.home("old") != "spare_1" || b.home("new") != "spare_2" {
		t.Errorf("with a request on its way, the old service is in %q, the new one in %q", b.home("old"), b.home("new"))
	}
	close(leave)
	if got := <-answer; got != "old" {
		t.Errorf("the old request got %q", got)
	}
	b.until("the spare to be free", func() bool { return b.home("old") == "" })
	b.news <- city(ports{"new": {app(t, "new")}, "third": {app(t, "third")}})
	b.eventually("third.test", "third")
	for range 40 {
		if _, body := b.get("third.test"); body != "third" {
			t.Fatalf("the new owner of a spare answers %q", body)
		}
	}
	if b.home("third") != "spare_1" || b.pid() != pid {
		t.Errorf("the third service is in %q; worker %s became %s", b.home("third"), pid, b.pid())
	}
}

// post sends a request that HAProxy does not send twice, and gives the answer's body.
func (b *bench) post(host string) string {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+b.settings.Bind[0].String(), nil)
	if err != nil {
		return err.Error()
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

func TestStillRouterFreesItsSpares(t *testing.T) {
	b := newBench(t, spares(4))
	_, _ = b.settled()
	b.news <- city(ports{"one": {app(t, "one")}, "two": {app(t, "two")}})
	b.eventually("two.test", "two")
	if b.home("one")+b.home("two") != "spare_1spare_2" {
		t.Fatalf("they live in %q and %q", b.home("one"), b.home("two"))
	}
	b.stop()
	b.start(b.settings, func(o *router.Options) { o.Still = 300 * time.Millisecond })
	b.until("the spares to be free", func() bool { return b.home("one")+b.home("two") == "be_p.one.mainbe_p.two.main" })
	b.eventually("one.test", "one")
}

// TestHAProxyFitsItsLimits: whatever number of connections is asked for, HAProxy starts without a complaint, and takes
// those that fit the files that it may open.
func TestHAProxyFitsItsLimits(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	for asked, most := range map[int]uint64{2000: 2064, 1 << 20: limit.Max / 2} {
		b := newBench(t, func(s *router.Settings) { s.MaxConn = asked })
		b.settled()
		var got uint64
		for line := range strings.Lines(b.runtime("show info")) {
			if rest, ok := strings.CutPrefix(line, "Maxconn: "); ok {
				if _, err := fmt.Sscan(rest, &got); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got > most || got < min(most, 2000)-100 {
			t.Errorf("asked for %d connections: HAProxy takes %d, with %d open files", asked, got, limit.Max)
		}
		log, err := os.ReadFile(filepath.Join(b.settings.Dir, "haproxy.log"))
		if err != nil || strings.Contains(string(log), "FD limit") {
			t.Errorf("%v\n%s", err, log)
		}
	}
}
