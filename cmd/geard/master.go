package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/install"
	"gearmesh.dev/internal/pki"
	"gearmesh.dev/internal/seal"
	"gearmesh.dev/internal/version"
	"gearmesh.dev/master"
	"gearmesh.dev/master/store"
	"gearmesh.dev/master/store/etcd"
	"gearmesh.dev/unitgen"
)

// masterFlags are the settings of a master.
type masterFlags struct {
	dir, listen, domain, name string
	addresses, names          string
	join, tokenFile           string
	quota                     int64 // MiB
	etcd                      etcdFlags
}

type etcdFlags struct{ endpoints, prefix, ca, cert, key string }

func parseMaster(args []string) (masterFlags, error) {
	var m masterFlags
	f := flag.NewFlagSet("geard master", flag.ContinueOnError)
	f.StringVar(&m.dir, "dir", install.MasterDir, "directory of the CA, of people.json and of the store")
	f.StringVar(&m.listen, "listen", master.DefaultListen, "address and port of the API")
	f.StringVar(&m.domain, "domain", string(install.DefaultDomain), "DNS domain of the cluster")
	f.StringVar(&m.name, "name", "", "tells this master from others; the host's name when empty")
	f.StringVar(&m.addresses, "address", "", "addresses under which the master is reached, separated by commas; its certificate is good for them and for 127.0.0.1")
	f.StringVar(&m.names, "dns-name", "", "names under which the master is reached, separated by commas")
	f.StringVar(&m.join, "join", "", "address and port of a master of the cluster to become a further master of; nothing happens when this is one already")
	f.StringVar(&m.tokenFile, "token-file", "", "file with the token for --join, of gear token create --master")
	f.Int64Var(&m.quota, "store-quota", etcd.DefaultQuota>>20, "MiB that the embedded store may hold before it takes no more writes")
	f.StringVar(&m.etcd.endpoints, "etcd-endpoints", "", "URLs of an etcd cluster of your own, separated by commas; an embedded etcd when empty")
	f.StringVar(&m.etcd.prefix, "etcd-prefix", "", "prefix of all keys in your etcd; /gearmesh/ when empty")
	f.StringVar(&m.etcd.ca, "etcd-ca", "", "file with the CA of your etcd")
	f.StringVar(&m.etcd.cert, "etcd-cert", "", "file with the client certificate for your etcd")
	f.StringVar(&m.etcd.key, "etcd-key", "", "file with the key of that certificate")
	if err := f.Parse(args); err != nil {
		return m, err
	}
	if m.name == "" {
		var err error
		if m.name, err = os.Hostname(); err != nil {
			return m, fmt.Errorf("finding this host's name: %w", err)
		}
	}
	return m, nil
}

func runMaster(ctx context.Context, args []string, log *slog.Logger) error {
	flags, err := parseMaster(args)
	if err != nil {
		return err
	}
	if err := flags.become(ctx); err != nil {
		return err
	}
	cfg, source, err := flags.config()
	if err != nil {
		return err
	}
	s, err := flags.store(ctx, source, cfg, log)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if e, ok := s.(*etcd.Embedded); ok {
		go flags.follow(ctx, e, cancel, log)
	}
	m, err := master.New(cfg, s, log)
	if err == nil {
		ready(log)
		err = m.Run(ctx)
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		err = errors.Join(cause, err)
	}
	return errors.Join(err, s.Close())
}

// become makes this a further master of another one's cluster, with --join.
func (m masterFlags) become(ctx context.Context) error {
	if m.join == "" {
		return nil
	}
	token, err := os.ReadFile(m.tokenFile)
	if err != nil {
		return fmt.Errorf("--token-file: %w", err)
	}
	addresses := split(m.addresses)
	if len(addresses) == 0 {
		return errors.New("--join needs --address: where the other masters reach this one")
	}
	own, err := netip.ParseAddr(addresses[0])
	if err != nil {
		return fmt.Errorf("--address: %w", err)
	}
	_, err = install.FetchKit(ctx, install.MasterOptions{Dir: m.dir, Master: m.join, Token: strings.TrimSpace(string(token)), Name: api.Name(m.name), Address: own})
	return err
}

// follow looks after the seat of an embedded member: it is forgotten when the member has a vote, and a
// member that was removed ends this process.
func (m masterFlags) follow(ctx context.Context, e *etcd.Embedded, end context.CancelCauseFunc, log *slog.Logger) {
	for seated := false; ; {
		if !seated && e.Voter() {
			seated = true
			if err := install.Seated(m.dir); err != nil {
				log.Warn("this master has a vote", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-e.Ended():
			end(errors.Join(e.Err(), install.MarkRemoved(m.dir)))
			return
		case <-time.After(time.Second):
		}
	}
}

// config gives the settings of the master, and its certificate.
func (m masterFlags) config() (master.Config, pki.Source, error) {
	ca, err := pki.LoadCA(m.dir)
	if err != nil {
		return master.Config{}, nil, fmt.Errorf("%w; gear up makes it", err)
	}
	if install.IsRemoved(m.dir) {
		return master.Config{}, nil, errors.New("this master has been removed from the cluster; to bring it back, run on this host: gear join MASTER TOKEN --master; else: systemctl disable --now gear-master")
	}
	addresses := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	for _, text := range split(m.addresses) {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return master.Config{}, nil, fmt.Errorf("--address: %w", err)
		}
		addresses = append(addresses, a)
	}
	people, err := install.LoadPeople(m.dir)
	if err != nil {
		return master.Config{}, nil, err
	}
	source := ca.Master(split(m.names), addresses)
	cfg := master.Config{Name: m.name, Version: version.Version, Listen: m.listen, Units: unitgen.Changes, TLS: pki.ServerConfig(source, ca.Cert),
		AgentTLS: pki.ClientConfig(source, ca.Cert), AgentPort: agentPort, CA: ca, Domain: api.Hostname(m.domain),
		Kit: func() (api.MasterKit, error) { return install.ReadKit(m.dir) }}
	if cfg.Address, err = m.own(addresses); err != nil {
		return master.Config{}, nil, err
	}
	if cfg.Secrets, err = seal.EnsureKey(filepath.Join(m.dir, install.SealingKeyFile)); err != nil {
		return master.Config{}, nil, err
	}
	for _, p := range people {
		cfg.People = append(cfg.People, master.Person(p))
	}
	return cfg, source, nil
}

// own gives where others reach this master's API: the first --address, at the port that it listens on; zero
// without one.
func (m masterFlags) own(addresses []netip.Addr) (netip.AddrPort, error) {
	if len(addresses) < 2 { // 127.0.0.1 alone
		return netip.AddrPort{}, nil
	}
	_, text, err := net.SplitHostPort(m.listen)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("--listen: %w", err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("--listen: %w", err)
	}
	return netip.AddrPortFrom(addresses[1], uint16(port)), nil
}

// closingStore is a store that has to be closed.
type closingStore interface {
	store.Store
	Close() error
}

func (m masterFlags) store(ctx context.Context, source pki.Source, cfg master.Config, log *slog.Logger) (closingStore, error) {
	if m.etcd.endpoints == "" {
		seat, _, err := install.Seat(m.dir)
		if err != nil {
			return nil, err
		}
		ca, err := pki.ParseCert(cfg.CA.PEM())
		if err != nil {
			return nil, err
		}
		return etcd.Start(ctx, etcd.Config{Dir: filepath.Join(m.dir, "etcd"), Name: m.name, Address: cfg.Address.Addr(), Seat: seat, Quota: m.quota << 20,
			Peers: &etcd.Peers{CA: ca, Source: source, Dir: filepath.Join(m.dir, "peer")}}, log)
	}
	secure, err := m.etcd.tls()
	if err != nil {
		return nil, err
	}
	return etcd.Dial(ctx, etcd.Cluster{Endpoints: split(m.etcd.endpoints), TLS: secure, Prefix: m.etcd.prefix}, log)
}

// tls gives the settings for an etcd of the operator's; nil without a CA, which means plain http.
func (e etcdFlags) tls() (*tls.Config, error) {
	if e.ca == "" {
		return nil, nil
	}
	text, err := os.ReadFile(e.ca)
	if err != nil {
		return nil, fmt.Errorf("--etcd-ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--etcd-ca: %q has no certificate in PEM", e.ca)
	}
	c := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if e.cert != "" {
		pair, err := tls.LoadX509KeyPair(e.cert, e.key)
		if err != nil {
			return nil, fmt.Errorf("--etcd-cert: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}
