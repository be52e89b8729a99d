package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/install"
	"gearmesh.dev/internal/pki"
	"gearmesh.dev/internal/seal"
	"gearmesh.dev/internal/version"
	"gearmesh.dev/master"
	"gearmesh.dev/master/store/etcd"
	"gearmesh.dev/unitgen"
)

// masterFlags are the settings of a master.
type masterFlags struct {
	dir, listen, domain, name string
	addresses, names          string
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
	f.StringVar(&m.etcd.endpoints, "etcd-endpoints", "", "URLs of an etcd cluster of your own, separated by commas; an embedded etcd when empty")
	f.StringVar(&m.etcd.prefix, "etcd-prefix", "", "prefix of all keys in your etcd; /gearmesh/ when empty")
	f.StringVar(&m.etcd.ca, "etcd-ca", "", "file with the CA of your etcd")
	f.StringVar(&m.etcd.cert, "etcd-cert", "", "file with the client certificate for your etcd")
	f.StringVar(&m.etcd.key, "etcd-key", "", "file with the key of that certificate")
	return m, f.Parse(args)
}

func runMaster(ctx context.Context, args []string, log *slog.Logger) error {
	flags, err := parseMaster(args)
	if err != nil {
		return err
	}
	cfg, err := flags.config()
	if err != nil {
		return err
	}
	s, err := flags.store(ctx, log)
	if err != nil {
		return err
	}
	m, err := master.New(cfg, s, log)
	if err == nil {
		ready(log)
		err = m.Run(ctx)
	}
	return errors.Join(err, s.Close())
}

func (m masterFlags) config() (master.Config, error) {
	ca, err := pki.LoadCA(m.dir)
	if err != nil {
		return master.Config{}, fmt.Errorf("%w; gear up makes it", err)
	}
	addresses := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	for _, text := range split(m.addresses) {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return master.Config{}, fmt.Errorf("--address: %w", err)
		}
		addresses = append(addresses, a)
	}
	people, err := install.LoadPeople(m.dir)
	if err != nil {
		return master.Config{}, err
	}
	if m.name == "" {
		if m.name, err = os.Hostname(); err != nil {
			return master.Config{}, fmt.Errorf("finding this host's name: %w", err)
		}
	}
	source := ca.Master(split(m.names), addresses)
	cfg := master.Config{Name: m.name, Version: version.Version, Listen: m.listen, Units: unitgen.Changes, TLS: pki.ServerConfig(source, ca.Cert),
		AgentTLS: pki.ClientConfig(source, ca.Cert), AgentPort: agentPort, CA: ca, Domain: api.Hostname(m.domain)}
	if cfg.Secrets, err = seal.EnsureKey(filepath.Join(m.dir, "secret.key")); err != nil {
		return master.Config{}, err
	}
	for _, p := range people {
		cfg.People = append(cfg.People, master.Person(p))
	}
	return cfg, nil
}

func (m masterFlags) store(ctx context.Context, log *slog.Logger) (*etcd.Store, error) {
	if m.etcd.endpoints == "" {
		return etcd.Start(ctx, filepath.Join(m.dir, "etcd"), log)
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
