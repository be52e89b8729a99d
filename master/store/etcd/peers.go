package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/etcdserver/api/etcdhttp"
	"go.uber.org/zap"

	"gearmesh.dev/internal/atomicfile"
	"gearmesh.dev/internal/pki"
)

// Peers is how the members of an embedded store know each other: by certificates of the cluster's
// CA that only masters have. Both sides of each connection show one.
type Peers struct {
	CA     *x509.Certificate
	Source pki.Source // this master's certificate, good for pki.MasterName
	Dir    string     // of the files from which etcd reads them; made when missing, mode 0700
}

func (p *Peers) pair() string { return filepath.Join(p.Dir, "peer.pem") }
func (p *Peers) ca() string   { return filepath.Join(p.Dir, "ca.pem") }

// refresh writes the present certificate for etcd's outgoing connections, which read it for each.
func (p *Peers) refresh() error {
	cert, err := p.Source.Certificate()
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return fmt.Errorf("writing the key for other masters: %w", err)
	}
	var text []byte
	for _, der := range cert.Certificate {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		return fmt.Errorf("writing the certificate for other masters: %w", err)
	}
	if old, err := os.ReadFile(p.pair()); err == nil && string(old) == string(text) {
		return nil
	}
	if err := atomicfile.Write(p.ca(), pki.CertPEM(p.CA), 0o400); err != nil {
		return err
	}
	// One file for both: a certificate is never read with another one's key.
	return atomicfile.Write(p.pair(), text, 0o400)
}

// info is for connections to other members.
func (p *Peers) info() transport.TLSInfo {
	return transport.TLSInfo{CertFile: p.pair(), KeyFile: p.pair(), TrustedCAFile: p.ca(), ServerName: pki.MasterName,
		ClientCertAuth: true, AllowedCNs: []string{pki.MasterName}, MinVersion: tls.VersionTLS13, Logger: zap.NewNop()}
}

// serverConfig is for connections from other members: no host's certificate will do.
func (p *Peers) serverConfig() *tls.Config {
	c := pki.AgentConfig(p.Source, p.CA)
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.VerifiedChains) == 0 {
			return errors.New("a master's certificate is needed")
		}
		if role, _, err := pki.Peer(s.VerifiedChains[0][0]); err != nil || role != pki.RoleMaster {
			return errors.New("the certificate is no master's")
		}
		return nil
	}
	return c
}

// peerServer serves other members.
type peerServer struct {
	http *http.Server
	done sync.WaitGroup
}

func (s *peerServer) close() {
	_ = s.http.Close()
	s.done.Wait()
}

// listen serves other members at an address.
func (e *Embedded) listen(at string) error {
	if e.cfg.Peers == nil {
		return errors.New("the store has several members, and this master has no certificate for them")
	}
	if e.cfg.PeerListen != "" {
		at = e.cfg.PeerListen
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		return fmt.Errorf("listening for other masters: %w", err)
	}
	handler := etcdhttp.NewPeerHandler(zap.New(slogCore{e.log}), e.server.Server)
	s := &peerServer{http: &http.Server{Handler: handler, TLSConfig: e.cfg.Peers.serverConfig(), ReadHeaderTimeout: 5 * time.Second,
		ErrorLog: slog.NewLogLogger(e.log.Handler(), slog.LevelDebug)}}
	s.done.Go(func() { _ = s.http.ServeTLS(l, "", "") })
	e.peers = s
	e.log.Info("listening for other masters", "address", l.Addr().String())
	return nil
}

// ownPeer gives the address at which other members reach this one; "" while it is alone.
func (e *Embedded) ownPeer() string {
	c := e.server.Server.Cluster()
	m := c.Member(e.server.Server.MemberID())
	if m == nil {
		if e.cfg.Seat != "" { // its own admission is still to be applied
			u := e.peerURL(e.cfg.Address)
			return u.Host
		}
		return ""
	}
	return hostOf(m.PeerURLs)
}

// renewPeers keeps the certificate in the files fresh.
func (e *Embedded) renewPeers(ctx context.Context) {
	if e.cfg.Peers == nil {
		return
	}
	if err := e.cfg.Peers.refresh(); err != nil && ctx.Err() == nil {
		e.log.Warn("renewing the certificate for other masters", "error", err)
	}
}
