package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"gearmesh.dev/api"
)

// Source gives the certificate to show now. It is asked at each handshake.
type Source interface {
	Certificate() (*tls.Certificate, error)
}

var (
	_ Source = (*Files)(nil)
	_ Source = (*Rotating)(nil)
)

// ServerConfig is the master's: anyone may connect, and who shows a certificate must show one of the CA.
func ServerConfig(s Source, ca *x509.Certificate) *tls.Config {
	c := serverConfig(s, ca)
	c.ClientAuth = tls.VerifyClientCertIfGiven
	return c
}

// AgentConfig is an agent's: who connects must show a certificate of the CA. Whose it is, Peer tells.
func AgentConfig(s Source, ca *x509.Certificate) *tls.Config {
	c := serverConfig(s, ca)
	c.ClientAuth = tls.RequireAndVerifyClientCert
	return c
}

func serverConfig(s Source, ca *x509.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		ClientCAs:      Pool(ca),
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.Certificate() },
	}
}

// ClientConfig trusts the CA alone, and shows the certificate of s; nil for a client without one.
func ClientConfig(s Source, ca *x509.Certificate) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: Pool(ca)}
	if s != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.Certificate() }
	}
	return c
}

// Refusing makes a configuration refuse the certificates of hosts that were withdrawn, whichever side it is for. A connection that
// is open already stays open.
func Refusing(c *tls.Config, withdrawn func(host api.Name, issued time.Time) bool) *tls.Config {
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return nil // a client without one, where that is allowed
		}
		if Withdrawn(s.PeerCertificates[0], withdrawn) {
			return fmt.Errorf("the certificate of %q has been withdrawn", s.PeerCertificates[0].Subject.CommonName)
		}
		return nil
	}
	return c
}

// Withdrawn tells whether a verified certificate is a host's that was withdrawn.
func Withdrawn(cert *x509.Certificate, withdrawn func(host api.Name, issued time.Time) bool) bool {
	role, host, err := Peer(cert)
	return err == nil && role == RoleHost && withdrawn(host, Issued(cert))
}

// Pool gives the pool of one CA.
func Pool(ca *x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return pool
}

// Files is a certificate and key on disk, read anew when the certificate's file is replaced.
type Files struct {
	cert, key string

	mu      sync.Mutex
	current *tls.Certificate
	seen    os.FileInfo // of the certificate's file when current was read
}

// NewFiles reads a certificate and its key. The paths are read again when they have changed.
func NewFiles(certPath, keyPath string) (*Files, error) {
	f := &Files{cert: certPath, key: keyPath}
	if _, err := f.Certificate(); err != nil {
		return nil, err
	}
	return f, nil
}

// Certificate implements Source. A new file that cannot be read leaves the old certificate in use.
func (f *Files) Certificate() (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.cert)
	if err == nil && f.current != nil && os.SameFile(info, f.seen) && info.ModTime().Equal(f.seen.ModTime()) {
		return f.current, nil
	}
	cert, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		if f.current != nil {
			return f.current, nil
		}
		return nil, fmt.Errorf("loading certificate %q: %w", f.cert, err)
	}
	f.current, f.seen = &cert, info
	return f.current, nil
}

// Rotating is a master's certificate, made in memory by the CA at its side and made anew when
// 2/3 of its life have passed.
type Rotating struct {
	ca    *CA
	names []string
	addrs []netip.Addr

	mu      sync.Mutex
	current *tls.Certificate
}

// Master gives the source of the certificate of a master that is reached by the given names and addresses.
func (ca *CA) Master(names []string, addrs []netip.Addr) *Rotating {
	return &Rotating{ca: ca, names: names, addrs: addrs}
}

// Certificate implements Source.
func (r *Rotating) Certificate() (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if r.current != nil && now.Before(RenewAt(r.current.Leaf)) {
		return r.current, nil
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	chain, err := r.ca.SignMaster(&key.PublicKey, r.names, r.addrs, now)
	if err != nil {
		return nil, err
	}
	keyPEM, err := KeyPEM(key)
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(chain, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("making the master's certificate: %w", err)
	}
	r.current = &cert
	return r.current, nil
}
