package pki_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/internal/pki"
)

func newCA(t testing.TB) *pki.CA {
	t.Helper()
	ca, err := pki.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func request(t testing.TB) []byte {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func TestSaveAndLoadCA(t *testing.T) {
	dir, ca := t.TempDir(), newCA(t)
	if err := ca.Save(dir); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "ca.key"))
	if err != nil || info.Mode() != 0o400 {
		t.Errorf("ca.key has mode %v, %v; want 0400", info.Mode(), err)
	}
	loaded, err := pki.LoadCA(dir)
	if err != nil || loaded.Pin() != ca.Pin() {
		t.Fatalf("loaded %v, %v; want the same CA", loaded, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), newCA(t).PEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.LoadCA(dir); err == nil || !strings.Contains(err.Error(), "is not its key") {
		t.Errorf("got %v for another CA's key", err)
	}
}

func TestHostCertificate(t *testing.T) {
	ca, now := newCA(t), time.Now()
	text, err := ca.SignHost(request(t), "h1", netip.MustParseAddr("10.0.0.5"), now)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pki.ParseCert(text)
	if err != nil {
		t.Fatal(err)
	}
	role, name, err := pki.Peer(cert)
	if role != pki.RoleHost || name != "h1" || err != nil {
		t.Errorf("the owner is %q %q, %v", role, name, err)
	}
	if life := cert.NotAfter.Sub(now); life > pki.LeafLifetime || life < pki.LeafLifetime-time.Second {
		t.Errorf("it lives %v, want %v", life, pki.LeafLifetime)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		for _, name := range []string{"h1", "10.0.0.5"} {
			opts := x509.VerifyOptions{Roots: pki.Pool(ca.Cert), DNSName: name, KeyUsages: []x509.ExtKeyUsage{usage}}
			if _, err := cert.Verify(opts); err != nil {
				t.Errorf("as %q: %v", name, err)
			}
		}
	}
	if n := strings.Count(string(text), "BEGIN CERTIFICATE"); n != 2 {
		t.Errorf("the chain has %d certificates, want the leaf and the CA", n)
	}
}

// What a request says of itself counts for nothing.
func TestSignerTakesOnlyTheKey(t *testing.T) {
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "master"}, DNSNames: []string{"master", "evil"},
		ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	text, err := newCA(t).SignHost(csr, "h1", netip.Addr{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pki.ParseCert(text)
	if err != nil {
		t.Fatal(err)
	}
	if cert.Subject.String() != "CN=host:h1" || strings.Join(cert.DNSNames, " ") != "h1" || cert.IsCA {
		t.Errorf("the request got %v, %v, CA %v", cert.Subject, cert.DNSNames, cert.IsCA)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		t.Error("the certificate is for another key")
	}
}

func TestSignHostRefuses(t *testing.T) {
	good := request(t)
	foreign := func(key any) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	}
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	block, _ := pem.Decode(good)
	block.Bytes[len(block.Bytes)-1] ^= 1
	tests := map[string]struct {
		csr  []byte
		name string
		want string
	}{
		"empty":       {nil, "h1", "not in PEM"},
		"certificate": {newCA(t).PEM(), "h1", `a "CERTIFICATE REQUEST" is needed`},
		"two":         {append(good[:len(good):len(good)], good...), "h1", "after its end"},
		"large":       {append(good[:len(good):len(good)], make([]byte, 9000)...), "h1", "at most 8192"},
		"forged":      {pem.EncodeToMemory(block), "h1", "request"},
		"ed25519":     {foreign(ed), "h1", "P-256 is needed"},
		"p384":        {foreign(p384), "h1", "P-256 is needed"},
		"bad name":    {good, "h1/../master", "a-z, 0-9 and hyphens"},
	}
	ca := newCA(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := ca.SignHost(tt.csr, apiName(tt.name), netip.Addr{}, time.Now())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestPeerRefusesStrangers(t *testing.T) {
	for _, cn := range []string{"", "host:", "host:H1", "Master", "admin", "host:a/b", "host:master\n"} {
		role, name, err := pki.Peer(&x509.Certificate{Subject: pkix.Name{CommonName: cn}})
		if err == nil || role != "" || name != "" {
			t.Errorf("common name %q is taken for %q %q", cn, role, name)
		}
	}
}

func TestRenewAtTwoThirds(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	cert := &x509.Certificate{NotBefore: start, NotAfter: start.Add(9 * time.Hour)}
	if got := pki.RenewAt(cert); !got.Equal(start.Add(6 * time.Hour)) {
		t.Errorf("renew at %v", got)
	}
}
