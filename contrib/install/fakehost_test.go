package install_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/install"
	"gearmesh.dev/internal/freeport"
	"gearmesh.dev/internal/pki"
)

// fakeHost is a directory that looks like a Debian host, with a dockerd, and a systemctl whose
// daemons are real servers: a master that signs with the CA on the host's disk, and an agent's socket.
type fakeHost struct {
	t    *testing.T
	root string
	port uint16 // of the master; taken from the system once

	mu       sync.Mutex
	enabled  map[string]bool
	active   map[string]bool
	commands []string // what was run and changes something
	docker   map[string]any
	joined   []api.JoinRequest
	token    pki.Token
	pend     func(n int) *api.Error // what the nth question of a host that waits comes to; nil lets every host in at once
	asked    []string               // keys that asked
}

var _ install.Runner = (*fakeHost)(nil)

func newHost(t *testing.T) *fakeHost {
	t.Helper()
	root, err := os.MkdirTemp("", "gi") // short: unix socket paths have 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	h := &fakeHost{t: t, root: root, enabled: map[string]bool{}, active: map[string]bool{},
		docker: map[string]any{"ServerVersion": "20.10.24+dfsg1", "CgroupDriver": "systemd"}}
	for _, dir := range []string{"run/systemd/system", "sys/fs/cgroup/memory", "run/gear", "release"} {
		h.must(os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	for _, tool := range []string{"usr/sbin/iptables-restore", "usr/sbin/conntrack", "usr/sbin/dockerd", "usr/sbin/runc", "usr/sbin/haproxy"} {
		h.write(tool, "#!", 0o755)
	}
	for _, bin := range []string{"gear", "geard", "gear-run"} {
		h.write("release/"+bin, "binary "+bin, 0o755)
	}
	h.serve("unix", filepath.Join(root, "run/docker.sock"), nil, http.HandlerFunc(h.serveDocker))
	h.port = freeport.Row(t, 1)
	return h
}

func (h *fakeHost) options() install.Options {
	return install.Options{Root: h.root, Binaries: filepath.Join(h.root, "release"), Name: "h1", Runner: h,
		Address: netip.MustParseAddr("127.0.0.1"), MasterPort: h.port, Patience: 3 * time.Minute}
}

func (h *fakeHost) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *fakeHost) write(path, text string, perm os.FileMode) {
	h.t.Helper()
	full := filepath.Join(h.root, path)
	h.must(os.MkdirAll(filepath.Dir(full), 0o755))
	h.must(os.WriteFile(full, []byte(text), perm))
}

func (h *fakeHost) read(path string) string {
	h.t.Helper()
	data, err := os.ReadFile(filepath.Join(h.root, path))
	h.must(err)
	return string(data)
}

// serve runs a server until the test ends.
func (h *fakeHost) serve(network, addr string, config *tls.Config, handler http.Handler) {
	l, err := net.Listen(network, addr)
	h.must(err)
	if config != nil {
		l = tls.NewListener(l, config)
	}
	quiet := log.New(io.Discard, "", 0) // every FetchCA is a handshake that fails
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute, ErrorLog: quiet}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(l) }()
	h.t.Cleanup(func() { server.Close(); <-done })
}

func (h *fakeHost) serveDocker(w http.ResponseWriter, _ *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	json.NewEncoder(w).Encode(h.docker)
}

// Run implements install.Runner: it is the host's systemctl.
func (h *fakeHost) Run(_ context.Context, argv ...string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if argv[0] != "systemctl" {
		return "", fmt.Errorf("%q is not on this host", argv)
	}
	verb, unit := argv[1], argv[len(argv)-1]
	if verb == "--quiet" {
		verb = argv[2]
	}
	switch verb {
	case "--version":
		return "systemd 252 (252.38-1~deb12u1)\n", nil
	case "is-enabled":
		return "", when(!h.enabled[unit], "disabled")
	case "is-active":
		return "", when(!h.active[unit], "inactive")
	}
	h.commands = append(h.commands, strings.Join(argv[1:], " "))
	switch verb {
	case "enable":
		h.enabled[unit] = true
	case "start":
		h.active[unit] = true
		return "", h.startDaemon(unit)
	case "reload":
		return "", h.reloadDocker()
	}
	return "", nil
}

func when(failed bool, text string) error {
	if failed {
		return errors.New(text)
	}
	return nil
}

// reloadDocker does what dockerd does on SIGHUP.
func (h *fakeHost) reloadDocker() error {
	var settings map[string]any
	if err := json.Unmarshal([]byte(h.read("etc/docker/daemon.json")), &settings); err != nil {
		return err
	}
	h.docker["LiveRestoreEnabled"], h.docker["Runtimes"] = settings["live-restore"], settings["runtimes"]
	return nil
}

func (h *fakeHost) startDaemon(unit string) error {
	switch unit {
	case "gear-master.service":
		ca, err := pki.LoadCA(filepath.Join(h.root, "var/lib/gear/master"))
		if err != nil {
			return err
		}
		h.serveMaster(ca)
	case "gear-agent.service":
		mux := http.NewServeMux()
		mux.HandleFunc("GET /v1/directory", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, `{}`)
			fmt.Fprintln(w, `{"hosts": [{"name": "h1", "address": "127.0.0.1"}]}`)
		})
		mux.HandleFunc("POST /v1/detach", func(w http.ResponseWriter, _ *http.Request) {
			h.commands = append(h.commands, "POST /v1/detach")
			w.WriteHeader(http.StatusNoContent)
		})
		h.serve("unix", filepath.Join(h.root, "run/gear/agent.sock"), nil, mux)
	}
	return nil
}

// serveMaster answers the routes that gear up and gear join use, as docs/http-api.md has them.
func (h *fakeHost) serveMaster(ca *pki.CA) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /v1/tokens", func(w http.ResponseWriter, r *http.Request) {
		people, err := install.LoadPeople(filepath.Join(h.root, "var/lib/gear/master"))
		_, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if err != nil || len(people) != 1 || !pki.SecretMatches(token, people[0].TokenHash) {
			refuse(w, api.Errorf(api.CodeUnauthorized, "the token is not known"))
			return
		}
		h.token = pki.NewToken(ca.Cert)
		json.NewEncoder(w).Encode(api.JoinToken{Token: h.token.String()})
	})
	mux.HandleFunc("POST /v1/join", func(w http.ResponseWriter, r *http.Request) {
		var req api.JoinRequest
		json.NewDecoder(r.Body).Decode(&req)
		if req.Token != h.token.String() {
			refuse(w, api.Errorf(api.CodeUnauthorized, "the join token was used already"))
			return
		}
		if h.pend != nil && h.waits(w, req) {
			return
		}
		h.joined, h.token = append(h.joined, req), pki.Token{}
		cert, err := ca.SignHost([]byte(req.CSR), req.Name, req.Address, time.Now())
		if err != nil {
			refuse(w, api.Errorf(api.CodeInvalid, "%v", err))
			return
		}
		w.WriteHeader(http.StatusCreated)
		json.NewEncoder(w).Encode(api.Identity{Name: req.Name, Certificate: string(cert), CA: string(ca.PEM()),
			GossipKey: pki.NewGossipKey(), Domain: "gear.internal", Peers: []netip.Addr{req.Address}})
	})
	mux.HandleFunc("GET /v1/hosts/h1", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(api.Host{Status: api.HostStatus{State: api.HostReady}})
	})
	config := pki.ServerConfig(ca.Master(nil, []netip.Addr{netip.MustParseAddr("127.0.0.1")}), ca.Cert)
	h.serve("tcp", fmt.Sprintf("127.0.0.1:%d", h.port), config, mux)
}

// waits answers a host that waits for approval, as h.pend says; it is false when the host is let in.
func (h *fakeHost) waits(w http.ResponseWriter, req api.JoinRequest) bool {
	key, err := pki.RequestFingerprint([]byte(req.CSR))
	h.must(err)
	h.asked = append(h.asked, key)
	e := h.pend(len(h.asked))
	switch {
	case e == nil:
		return false
	case e.Code == "":
		w.WriteHeader(http.StatusAccepted)
		json.NewEncoder(w).Encode(api.Identity{Name: req.Name, Pending: &api.PendingHost{Name: req.Name, Address: req.Address, Fingerprint: key, Until: time.Now().Add(time.Hour)}})
	default:
		refuse(w, e)
	}
	return true
}

func refuse(w http.ResponseWriter, e *api.Error) {
	w.WriteHeader(e.Status)
	json.NewEncoder(w).Encode(e)
}
