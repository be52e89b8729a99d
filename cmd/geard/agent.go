package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
	"gearmesh.dev/contrib/install"
	"gearmesh.dev/dnsd"
	"gearmesh.dev/geard"
	"gearmesh.dev/geard/engine"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/geard/realhost"
	"gearmesh.dev/geard/volumes"
	"gearmesh.dev/internal/loop"
	"gearmesh.dev/internal/pki"
	"gearmesh.dev/internal/systemd"
	"gearmesh.dev/internal/version"
	"gearmesh.dev/mesh"
)

// Where the agent is reached.
const (
	agentSocket = "/run/gear/agent.sock"
	agentPort   = 7444
	dnsPort     = 53
)

// agentGC is how much the agent's heap may grow before it is collected, in percent of what lives (GOGC). What an agent allocates in
// a pass is small, and a host has better uses for memory.
const agentGC = 50

func runAgent(ctx context.Context, args []string, log *slog.Logger) error {
	f := flag.NewFlagSet("geard agent", flag.ContinueOnError)
	dir := f.String("identity", install.AgentDir, "directory of the host's identity, written by gear up and gear join")
	collect := f.String("images", "own", "which old images are removed when the disk is over 80 percent full: own (that the agent has pulled), all, or off")
	socket := f.String("engine", engine.Socket, "unix socket of dockerd, or of Podman's Docker-compatible service")
	ceiling := f.String("max-policy", string(api.PolicyBaseline), "most that this host lets any pod have, whatever the master says: restricted, baseline or privileged")
	classList := f.String("volume-class", "", "directories for classes of volumes, as NAME=DIRECTORY,NAME=DIRECTORY")
	ipv6 := f.String("address6", "", "this host's IPv6 address, which makes it give IPv6 to its pods (default that of the interface with its IPv4 address, when it has one)")
	linksOver := f.String("links-over", "", "interface that links to other hosts travel over, and no other: one of a WireGuard network that has the hosts' addresses, for example")
	var names nameFlags
	names.add(f)
	if err := f.Parse(args); err != nil {
		return err
	}
	classes, err := volumes.ParseClasses(*classList)
	if err != nil {
		return fmt.Errorf("--volume-class: %w", err)
	}
	address6, err := parseAddress6(*ipv6)
	if err != nil {
		return err
	}
	maxPolicy := api.Policy(*ceiling)
	if err := maxPolicy.Validate(); err != nil {
		return fmt.Errorf("--max-policy: %w", err)
	}
	debug.SetGCPercent(agentGC)
	id, err := install.LoadIdentity(*dir)
	if err != nil {
		return err
	}
	d, err := newAgentDaemon(id, *dir, agentOptions{socket: *socket, maxPolicy: maxPolicy, classes: classes, address6: address6, linksOver: *linksOver, names: names}, log)
	if err != nil {
		return err
	}
	if d.images, err = d.collectImages(*socket, *collect); err != nil {
		return err
	}
	return d.run(ctx)
}

// agentOptions is what the operator of this host alone decides.
type agentOptions struct {
	socket    string
	maxPolicy api.Policy
	classes   volumes.Classes
	address6  netip.Addr // the zero one when it is to be found
	linksOver string     // interface; any when empty
	names     nameFlags
}

func parseAddress6(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s)
	if err == nil {
		err = api.CheckHostIPv6(a)
	}
	if err != nil {
		return a, fmt.Errorf("--address6: %w", err)
	}
	return a, nil
}

// agentDaemon joins the parts of a host.
type agentDaemon struct {
	id     install.Identity
	dir    string
	log    *slog.Logger
	files  *pki.Files
	master *client.Client
	mesh   *mesh.Node
	agent  *geard.Agent
	images func(context.Context) error // bounds old ones
	host   *realhost.Host

	names   *dnsd.Table
	serials *serials
	dns     *dnsd.Server
}

func newAgentDaemon(id install.Identity, dir string, o agentOptions, log *slog.Logger) (*agentDaemon, error) {
	d := &agentDaemon{id: id, dir: dir, log: log}
	var err error
	if d.files, err = pki.NewFiles(filepath.Join(dir, install.CertFile), filepath.Join(dir, install.KeyFile)); err != nil {
		return nil, err
	}
	if d.master, err = client.New(client.Config{ServerName: client.MasterName, Server: id.Master, CA: pki.CertPEM(id.CA), Certificate: d.files.Certificate}); err != nil {
		return nil, err
	}
	if err := d.nameServer(o.names); err != nil {
		return nil, err
	}
	return d, d.newAgent(o)
}

func (d *agentDaemon) newAgent(o agentOptions) error {
	eng, err := engine.New(o.socket)
	if err != nil {
		return err
	}
	capacity, err := realhost.Capacity()
	if err != nil {
		return err
	}
	d.mesh, err = mesh.Start(mesh.Config{Name: d.id.Name, Address: d.id.Address, Key: d.id.GossipKey, Logger: d.log,
		Snapshot: filepath.Join(d.dir, "mesh.snapshot"), Keyring: filepath.Join(d.dir, install.RingFile),
		Tags: mesh.Tags{Role: "agent", Version: version.Version, API: netip.AddrPortFrom(d.id.Address, agentPort)}})
	if err != nil {
		return err
	}
	d.mesh.Join(d.id.Peers)
	d.host = realhost.New(podstate.Host(), systemd.New(), eng, d.log)
	balancer, err := newBalancer(d.log)
	if err != nil {
		return err
	}
	d.host.BalanceWith(balancer)
	d.host.LinksOver(o.linksOver)
	d.agent, err = geard.New(geard.Config{Name: d.id.Name, Address: d.id.Address, IPv6: realhost.FindIPv6(d.id.Address, o.address6, d.log), Domain: d.id.Domain, Version: version.Version, Inspect: d.host,
		Capacity: capacity, MaxPolicy: o.maxPolicy, Volumes: o.classes, Dirs: podstate.Host(), Master: d.master, Mesh: meshView{d.mesh, d.id.Name}, Machine: d.host,
		Peers: peerClient{d.peerHTTP()}, Explain: d.host, Inside: d.host, Log: d.log})
	return err
}

// run serves until ctx ends. Names are answered from disk before anything else is up.
func (d *agentDaemon) run(ctx context.Context) error {
	d.setNames()
	g, ctx := errgroup.WithContext(ctx)
	for _, part := range []func(context.Context) error{d.agent.Run, d.dns.Run, d.followNames, d.serveHosts, d.serveSocket, d.images, d.renew, d.host.KeepEngine, d.watchRules, d.watchRefused} {
		g.Go(func() error { return part(ctx) })
	}
	ready(d.log)
	err := g.Wait()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(err, d.mesh.Close(closing))
}

// watchRefused writes to the journal what pods' egress refuses.
func (d *agentDaemon) watchRefused(ctx context.Context) error {
	return d.host.WatchRefused(ctx, d.agent.Refused)
}

// watchRules puts back at once what others take away of the host's rules.
func (d *agentDaemon) watchRules(ctx context.Context) error {
	return d.host.WatchRules(ctx, d.agent.RulesTouched)
}

// serveHosts serves the agent's API to the master and to other hosts.
func (d *agentDaemon) serveHosts(ctx context.Context) error {
	l, err := net.Listen("tcp", netip.AddrPortFrom(d.id.Address, agentPort).String())
	if err != nil {
		return fmt.Errorf("serving the agent's API: %w", err)
	}
	s := server(d.agent.Handler(d.role), d.log)
	s.TLSConfig = pki.Refusing(pki.AgentConfig(d.files, d.id.CA), d.refuses)
	return serve(ctx, s, func() error { return s.ServeTLS(l, "", "") })
}

// serveSocket serves root on this host.
func (d *agentDaemon) serveSocket(ctx context.Context) error {
	if err := os.Remove(agentSocket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("serving the agent's socket: %w", err)
	}
	l, err := net.Listen("unix", agentSocket)
	if err != nil {
		return fmt.Errorf("serving the agent's socket: %w", err)
	}
	if err := os.Chmod(agentSocket, 0o600); err != nil {
		return fmt.Errorf("serving the agent's socket: %w", err)
	}
	s := server(d.agent.SocketHandler(), d.log)
	return serve(ctx, s, func() error { return s.Serve(l) })
}

// server has every time limit that a stream allows: Go's defaults have none.
func server(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
}

// serve runs a server until ctx ends, and then closes its streams too.
func serve(ctx context.Context, s *http.Server, listen func() error) error {
	s.BaseContext = func(net.Listener) context.Context { return ctx }
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := listen(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// refuses tells whether a host's certificate was withdrawn.
func (d *agentDaemon) refuses(host api.Name, issued time.Time) bool {
	return d.agent.Refuses(host, issued)
}

// role reads a caller's role from its verified certificate. The connection may be older than the news that it was withdrawn.
func (d *agentDaemon) role(r *http.Request) geard.Role {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return geard.RoleNone
	}
	if pki.Withdrawn(r.TLS.VerifiedChains[0][0], d.refuses) {
		return geard.RoleNone
	}
	switch role, _, err := pki.Peer(r.TLS.VerifiedChains[0][0]); {
	case err != nil:
		return geard.RoleNone
	case role == pki.RoleMaster:
		return geard.RoleMaster
	case role == pki.RoleHost:
		return geard.RoleHost
	}
	return geard.RoleNone
}

// renew replaces the host's certificate when 2/3 of its life have passed. Until a master answers
// the old one is used.
func (d *agentDaemon) renew(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := d.renewIfDue(ctx); err != nil && ctx.Err() == nil {
			d.log.Warn("the host's certificate is due and could not be renewed", "err", err)
		}
		loop.Sleep(ctx, time.Hour)
	}
	return nil
}

func (d *agentDaemon) renewIfDue(ctx context.Context) error {
	now, err := d.files.Certificate()
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(now.Certificate[0])
	if err != nil || time.Now().Before(pki.RenewAt(leaf)) {
		return err
	}
	return install.Renew(d.dir, func(csr []byte) (string, error) { return d.master.RenewCertificate(ctx, d.id.Name, string(csr)) })
}

// peerHTTP is the client for other agents. Each is verified by its address.
func (d *agentDaemon) peerHTTP() *http.Client {
	return &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{TLSClientConfig: pki.Refusing(pki.ClientConfig(d.files, d.id.CA), d.refuses),
		MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute}}
}

// peerClient implements geard.Peers.
type peerClient struct{ http *http.Client }

// maxEndpoints bounds a peer's answer: some 40,000 endpoints.
const maxEndpoints = 16 << 20

func (p peerClient) Endpoints(ctx context.Context, host netip.Addr) (api.HostEndpoints, error) {
	var e api.HostEndpoints
	url := "https://" + netip.AddrPortFrom(host, agentPort).String() + "/v1/endpoints"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return e, err
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return e, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return e, fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return e, json.NewDecoder(io.LimitReader(resp.Body, maxEndpoints)).Decode(&e)
}

// meshView is the mesh as an agent asks for it.
type meshView struct {
	*mesh.Node
	self api.Name
}

func (m meshView) HintEndpoints(seq int64) { m.Node.HintEndpoints(m.self, seq) }

func (m meshView) Hints() map[api.Name]int64 {
	out := map[api.Name]int64{}
	for host, h := range m.Node.Hints() {
		out[host] = h.Seq
	}
	return out
}

func (m meshView) Alive() int {
	n := 0
	for _, x := range m.Members() {
		if x.State == mesh.Alive {
			n++
		}
	}
	return n
}
