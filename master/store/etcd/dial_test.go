package etcd_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"

	"gearmesh.dev/internal/pki"
	"gearmesh.dev/master/store"
	"gearmesh.dev/master/store/etcd"
	"gearmesh.dev/master/store/storetest"
)

// TestContractOfAnOutsideCluster runs the contract over the network, each test under its own prefix.
func TestContractOfAnOutsideCluster(t *testing.T) {
	addr, _ := outside(t)
	n := 0
	storetest.Run(t, func(t *testing.T) store.Store {
		n++
		return dial(t, addr, fmt.Sprintf("/cluster%d/", n)).Patient()
	})
}

// TestContractOfAnOutsideClusterWithTLS runs the contract over mutual TLS and under a prefix of the operator's. A client
// without a certificate, or with another CA, gets nothing.
func TestContractOfAnOutsideClusterWithTLS(t *testing.T) {
	ca, err := pki.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	info := tlsFiles(t, ca, dir)
	addr, _ := outsideWith(t, func(c *embed.Config) {
		c.ClientTLSInfo = info
		c.ListenClientUrls[0].Scheme = "https"
	})
	url := "https://" + addr
	pair, err := tls.LoadX509KeyPair(info.CertFile, info.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pki.Pool(ca.Cert), Certificates: []tls.Certificate{pair}}
	n := 0
	storetest.Run(t, func(t *testing.T) store.Store {
		n++
		return dialWith(t, etcd.Cluster{Endpoints: []string{url}, TLS: secure, Prefix: fmt.Sprintf("/ours%d/", n)}).Patient()
	})
	for name, cfg := range map[string]*tls.Config{
		"no certificate": {MinVersion: tls.VersionTLS12, RootCAs: pki.Pool(ca.Cert)}, "no CA": {MinVersion: tls.VersionTLS12},
	} {
		s := dialWith(t, etcd.Cluster{Endpoints: []string{url}, TLS: cfg})
		if _, err := s.Get(t.Context(), "a"); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// tlsFiles writes a certificate of a CA that is good for 127.0.0.1, as etcd wants it.
func tlsFiles(t *testing.T, ca *pki.CA, dir string) transport.TLSInfo {
	t.Helper()
	cert, err := ca.Master(nil, []netip.Addr{netip.MustParseAddr("127.0.0.1")}).Certificate()
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.KeyPEM(cert.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	info := transport.TLSInfo{CertFile: filepath.Join(dir, "crt"), KeyFile: filepath.Join(dir, "key"), TrustedCAFile: filepath.Join(dir, "ca"), ClientCertAuth: true}
	for path, text := range map[string][]byte{info.CertFile: pki.CertPEM(leaf), info.KeyFile: key, info.TrustedCAFile: ca.PEM()} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return info
}

func TestAnEtcdThatIsGoneIsUnavailable(t *testing.T) {
	addr, stop := outside(t)
	s := dial(t, addr, "")
	if _, err := s.Txn(t.Context(), store.Op{Key: "a", If: store.Absent}); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := s.Txn(t.Context(), store.Op{Key: "b", If: store.Absent}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("writing gives %v", err)
	}
	if _, err := s.Get(t.Context(), "a"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("reading gives %v", err)
	}
}

func dial(t *testing.T, addr, prefix string) *etcd.Store {
	t.Helper()
	return dialWith(t, etcd.Cluster{Endpoints: []string{addr}, Prefix: prefix})
}

func dialWith(t *testing.T, c etcd.Cluster) *etcd.Store {
	t.Helper()
	s, err := etcd.Dial(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// outside runs an etcd that listens on loopback, as a cluster of one's own does.
func outside(t *testing.T) (addr string, stop func()) {
	t.Helper()
	return outsideWith(t, func(*embed.Config) {})
}

func outsideWith(t *testing.T, change func(*embed.Config)) (addr string, stop func()) {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir, cfg.LogLevel = t.TempDir(), "fatal"
	cfg.ListenPeerUrls = nil
	cfg.ListenClientUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	change(cfg)
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(server.Close)
	t.Cleanup(stop)
	<-server.Server.ReadyNotify()
	return server.Clients[0].Addr().String(), stop
}
