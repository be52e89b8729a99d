package install

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/atomicfile"
	"gearmesh.dev/internal/pki"
)

// AgentDir is where a host's identity is.
const AgentDir = "/var/lib/gear/agent"

// The files of an identity in AgentDir. identity.json is written last: without it there is none.
const (
	KeyFile      = "host.key" // 0400; made on this host, and never leaves it
	CertFile     = "host.crt" // the host's certificate, then the CA's
	CAFile       = "ca.crt"
	GossipFile   = "gossip.key"  // 0400; 32 bytes as they are: the key with which the host joined
	RingFile     = "gossip.keys" // 0600; the keys that the master told later (mesh.Config.Keyring)
	identityFile = "identity.json"
)

// Identity is who a host is in its cluster, as identity.json and the files beside it keep it.
type Identity struct {
	Name    api.Name     `json:"name"`
	Address netip.Addr   `json:"address"` // where other hosts reach it
	Domain  api.Hostname `json:"domain"`
	Master  string       `json:"master"` // host:port of the API
	Peers   []netip.Addr `json:"peers,omitempty"`

	CA        *x509.Certificate `json:"-"`
	GossipKey []byte            `json:"-"`
}

// LoadIdentity reads a host's identity from dir (AgentDir). The certificate and key are for pki.NewFiles. The
// error wraps fs.ErrNotExist when the host has not joined.
func LoadIdentity(dir string) (Identity, error) {
	id, err := loadIdentity(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return id, fmt.Errorf("this host has not joined a cluster: %w; run gear up or gear join", err)
	}
	if err != nil {
		return id, fmt.Errorf("reading this host's identity: %w", err)
	}
	return id, nil
}

func loadIdentity(dir string) (Identity, error) {
	var id Identity
	data, err := os.ReadFile(filepath.Join(dir, identityFile))
	if err != nil {
		return id, err
	}
	if err := json.Unmarshal(data, &id); err != nil {
		return id, fmt.Errorf("%s: %w", identityFile, err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, CAFile))
	if err != nil {
		return id, err
	}
	if id.CA, err = pki.ParseCert(ca); err != nil {
		return id, fmt.Errorf("%s: %w", CAFile, err)
	}
	if id.GossipKey, err = os.ReadFile(filepath.Join(dir, GossipFile)); err != nil {
		return id, err
	}
	if len(id.GossipKey) != 32 {
		return id, fmt.Errorf("%s has %d bytes; 32 are needed", GossipFile, len(id.GossipKey))
	}
	return id, nil
}

// save writes an identity whose certificate the master has just given.
func (id Identity) save(dir string, keyPEM, certPEM []byte) error {
	if err := private(dir); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, RingFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting the gossip keys of an earlier identity: %w", err)
	}
	files := []struct {
		name string
		data []byte
		perm os.FileMode
	}{
		{KeyFile, keyPEM, 0o400}, {CertFile, certPEM, 0o444}, {CAFile, pki.CertPEM(id.CA), 0o444}, {GossipFile, id.GossipKey, 0o400},
	}
	for _, f := range files {
		if err := atomicfile.Write(filepath.Join(dir, f.name), f.data, f.perm); err != nil {
			return err
		}
	}
	return atomicfile.WriteJSON(filepath.Join(dir, identityFile), id, 0o444)
}

// joined tells whether dir has an identity of the cluster with that pin, whose certificate is good
// now. One of another cluster is an error: its pods may still run here.
func joined(dir, pin string) (bool, error) {
	id, err := loadIdentity(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading this host's identity in %q: %w; move the directory away to join anew", dir, err)
	}
	if pki.Pin(id.CA) != pin {
		return false, fmt.Errorf("this host is %q of another cluster, with the master at %s; move %q away to leave it", id.Name, id.Master, dir)
	}
	text, err := os.ReadFile(filepath.Join(dir, CertFile))
	if err != nil {
		return false, fmt.Errorf("reading this host's identity: %w", err)
	}
	cert, err := pki.ParseCert(bytes.TrimSpace(text))
	return err == nil && time.Now().Before(cert.NotAfter), nil
}
