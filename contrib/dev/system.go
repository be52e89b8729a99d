package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
	"gearmesh.dev/geard"
	"gearmesh.dev/geard/fakehost"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/internal/atomicfile"
	"gearmesh.dev/internal/clientconfig"
	"gearmesh.dev/internal/loop"
	"gearmesh.dev/internal/pki"
	"gearmesh.dev/master"
	"gearmesh.dev/master/store/etcd"
	"gearmesh.dev/mesh"
	"gearmesh.dev/unitgen"
)

// listen is where the development master serves.
const listen = "127.0.0.1:17443"

// system runs master and hosts until ctx ends.
func system(ctx context.Context, hosts int, log *slog.Logger) error {
	ca, err := authority()
	if err != nil {
		return err
	}
	token := pki.NewSecret()
	s, err := etcd.Start(ctx, etcd.Config{Dir: filepath.Join(dir, "etcd")}, log)
	if err != nil {
		return err
	}
	defer s.Close()
	source := ca.Master(nil, []netip.Addr{netip.MustParseAddr("127.0.0.1")})
	m, err := master.New(master.Config{Name: "dev", Version: "dev", Listen: listen, Units: unitgen.Changes, TLS: pki.ServerConfig(source, ca.Cert),
		AgentTLS: pki.ClientConfig(source, ca.Cert), CA: ca, People: []master.Person{{Name: "dev", TokenHash: pki.HashSecret(token)}}}, s, log)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.Run(ctx) })
	admin, err := client.New(client.Config{ServerName: client.MasterName, Server: listen, CA: ca.PEM(), Token: token, Attempts: 20})
	if err != nil {
		return err
	}
	config := filepath.Join(dir, "config.json")
	if err := (clientconfig.File{}).Set(clientconfig.Context{Name: "dev", Server: "https://" + listen, CA: string(ca.PEM()), Token: token}).Save(config); err != nil {
		return err
	}
	for i := range hosts {
		g.Go(func() error { return host(ctx, i+1, ca, admin, log) })
	}
	fmt.Printf("\nThe system runs. In another terminal:\n  export GEAR_CONFIG=%s\n  bin/gear hosts\n  bin/gear apply -f contrib/examples/guestbook --no-wait\n\n", config)
	return g.Wait()
}

// authority keeps one CA, so that hosts stay known over reloads.
func authority() (*pki.CA, error) {
	if ca, err := pki.LoadCA(dir); err == nil {
		return ca, nil
	}
	ca, err := pki.NewCA(time.Now())
	if err != nil {
		return nil, err
	}
	return ca, ca.Save(dir)
}

// host is an agent on a fake host with an address of its own in 127.0.0.0/8.
func host(ctx context.Context, n int, ca *pki.CA, admin *client.Client, log *slog.Logger) error {
	name, addr := api.Name(fmt.Sprint("h", n)), netip.AddrFrom4([4]byte{127, 0, 0, byte(10 + n)})
	log = log.With("host", name)
	id, cert, err := join(ctx, name, addr, ca, admin)
	if err != nil {
		return fmt.Errorf("host %s: %w", name, err)
	}
	own, err := client.New(client.Config{ServerName: client.MasterName, Server: listen, CA: ca.PEM(), Certificate: func() (*tls.Certificate, error) { return &cert, nil }})
	if err != nil {
		return err
	}
	node, err := mesh.Start(mesh.Config{Name: name, Address: addr, Port: 17946, Key: id.GossipKey, Logger: log})
	if err != nil {
		return err
	}
	defer func() {
		if err := node.Close(context.WithoutCancel(ctx)); err != nil {
			log.Warn("leaving the mesh", "err", err)
		}
	}()
	base := filepath.Join(dir, string(name))
	dirs := podstate.Dirs{State: filepath.Join(base, "state"), Run: filepath.Join(base, "run")}
	a, err := geard.New(geard.Config{MaxPolicy: api.PolicyPrivileged, Name: name, Address: addr, Domain: id.Domain, Version: "dev", Capacity: api.Resources{CPU: 4000, Memory: 8 << 30},
		Dirs: dirs, Master: own, Mesh: fakeMesh{node, name}, Machine: &fakehost.Host{Dirs: dirs}, Peers: noPeers{}, Log: log})
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// join makes the host known to the master, once: its identity is kept over reloads.
func join(ctx context.Context, name api.Name, addr netip.Addr, ca *pki.CA, admin *client.Client) (api.Identity, tls.Certificate, error) {
	var kept struct {
		Identity api.Identity
		Key      string
	}
	file := filepath.Join(dir, string(name)+".json")
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &kept)
	}
	if err != nil {
		if kept.Identity, kept.Key, err = joinAnew(ctx, name, addr, ca, admin); err != nil {
			return api.Identity{}, tls.Certificate{}, err
		}
		if err := atomicfile.WriteJSON(file, kept, 0o600); err != nil {
			return api.Identity{}, tls.Certificate{}, err
		}
	}
	cert, err := tls.X509KeyPair([]byte(kept.Identity.Certificate), []byte(kept.Key))
	return kept.Identity, cert, err
}

func joinAnew(ctx context.Context, name api.Name, addr netip.Addr, ca *pki.CA, admin *client.Client) (api.Identity, string, error) {
	t, err := admin.CreateToken(ctx, api.TokenRequest{})
	for err != nil && loop.Sleep(ctx, 200*time.Millisecond) { // the master is just starting
		t, err = admin.CreateToken(ctx, api.TokenRequest{})
	}
	if err != nil {
		return api.Identity{}, "", err
	}
	key, err := pki.NewKey()
	if err != nil {
		return api.Identity{}, "", err
	}
	csr, err := pki.NewRequest(key)
	if err != nil {
		return api.Identity{}, "", err
	}
	keyPEM, err := pki.KeyPEM(key)
	if err != nil {
		return api.Identity{}, "", err
	}
	guest, err := client.New(client.Config{ServerName: client.MasterName, Server: listen, CA: ca.PEM()})
	if err != nil {
		return api.Identity{}, "", err
	}
	id, err := guest.Join(ctx, api.JoinRequest{Token: t.Token, Name: name, Address: addr, CSR: string(csr)})
	return id, string(keyPEM), err
}

// fakeMesh is the real mesh as the agent asks for it, on a port of the development system's.
type fakeMesh struct {
	*mesh.Node
	self api.Name
}

func (m fakeMesh) HintEndpoints(seq int64) { m.Node.HintEndpoints(m.self, seq) }
func (m fakeMesh) Alive() int              { return len(m.Members()) }
func (m fakeMesh) Hints() map[api.Name]int64 {
	return nil // endpoints come through the master alone here
}

// noPeers stands for the agents' API, which fake hosts do not serve.
type noPeers struct{}

func (noPeers) Endpoints(context.Context, netip.Addr) (api.HostEndpoints, error) {
	return api.HostEndpoints{}, fmt.Errorf("fake hosts serve no API")
}
