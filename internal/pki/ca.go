package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/atomicfile"
)

// How long certificates live.
const (
	CALifetime   = 10 * 365 * 24 * time.Hour
	LeafLifetime = 7 * 24 * time.Hour
)

// backdate lets a certificate be good on hosts whose clock is behind the signer's, by a time zone for example.
const backdate = 24 * time.Hour

// CA is a certificate authority: a certificate that everyone trusts, and its key.
type CA struct {
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes an authority of a random name and serial number, good from now.
func NewCA(now time.Time) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the CA's key: %w", err)
	}
	tmpl := template("Gearmesh CA "+rand.Text()[:8], now, CALifetime)
	tmpl.IsCA, tmpl.BasicConstraintsValid = true, true
	tmpl.MaxPathLenZero = true
	tmpl.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making the CA's certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("making the CA's certificate: %w", err)
	}
	return &CA{Cert: cert, key: key}, nil
}

// LoadCA reads an authority that Save has written to dir.
func LoadCA(dir string) (*CA, error) {
	certPEM, err := os.ReadFile(filepath.Join(dir, caCertFile))
	if err != nil {
		return nil, fmt.Errorf("loading the CA: %w", err)
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, caKeyFile))
	if err != nil {
		return nil, fmt.Errorf("loading the CA: %w", err)
	}
	cert, err := ParseCert(certPEM)
	if err != nil {
		return nil, fmt.Errorf("loading the CA from %q: %w", dir, err)
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("loading the CA from %q: %w", dir, err)
	}
	if !cert.IsCA || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("loading the CA from %q: %s is no CA, or %s is not its key", dir, caCertFile, caKeyFile)
	}
	return &CA{Cert: cert, key: key}, nil
}

const (
	caCertFile = "ca.crt"
	caKeyFile  = "ca.key"
)

// Save writes ca.key (0400) and ca.crt (0444) to dir, the key first: a certificate on disk always has its key.
func (ca *CA) Save(dir string) error {
	keyPEM, err := KeyPEM(ca.key)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(dir, caKeyFile), keyPEM, 0o400); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, caCertFile), ca.PEM(), 0o444)
}

// PEM gives the authority's certificate.
func (ca *CA) PEM() []byte { return CertPEM(ca.Cert) }

// Pin gives the SHA-256 of the authority's certificate in base64url.
func (ca *CA) Pin() string { return Pin(ca.Cert) }

// SignHost gives a host a certificate for the public key of its request, as PEM: its own, then
// the CA's. It is good for the host's name, and for its address when it has one.
func (ca *CA) SignHost(csrPEM []byte, name api.Name, address netip.Addr, now time.Time) ([]byte, error) {
	if err := name.Validate(); err != nil {
		return nil, fmt.Errorf("signing for a host: %w", err)
	}
	pub, err := requestKey(csrPEM)
	if err != nil {
		return nil, fmt.Errorf("signing for host %q: %w", name, err)
	}
	var addrs []netip.Addr
	if address.IsValid() {
		addrs = append(addrs, address)
	}
	return ca.sign(pub, hostPrefix+string(name), []string{string(name)}, addrs, now)
}

// SignMaster gives a master a certificate for a key, as SignHost does, good for the given names
// and addresses besides "master".
func (ca *CA) SignMaster(pub *ecdsa.PublicKey, names []string, addrs []netip.Addr, now time.Time) ([]byte, error) {
	return ca.sign(pub, MasterName, append([]string{MasterName}, names...), addrs, now)
}

func (ca *CA) sign(pub *ecdsa.PublicKey, cn string, names []string, addrs []netip.Addr, now time.Time) ([]byte, error) {
	tmpl := template(cn, now, LeafLifetime)
	tmpl.DNSNames = names
	for _, a := range addrs {
		tmpl.IPAddresses = append(tmpl.IPAddresses, a.Unmap().AsSlice())
	}
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	tmpl.BasicConstraintsValid = true
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.Cert, pub, ca.key)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate of %q: %w", cn, err)
	}
	return append(encode(certBlock, der), ca.PEM()...), nil
}

// template opens a certificate. Its serial number is 128 random
// bits, so that two certificates of one name can be told apart.
func template(cn string, now time.Time, life time.Duration) *x509.Certificate {
	var serial [16]byte
	rand.Read(serial[:])
	serial[0] &= 0x7f // positive in DER (RFC 5280, section 4.1.2.2)
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial[:]),
		Subject:      pkix.Name{CommonName: cn},
		NotBefore:    now.Add(-backdate).UTC(),
		NotAfter:     now.Add(life).UTC(),
	}
}

// Issued gives when a certificate of a host or master was made, by the signer's clock.
func Issued(cert *x509.Certificate) time.Time { return cert.NotAfter.Add(-LeafLifetime) }

// RenewAt gives the moment at which a certificate should be renewed: when 2/3 of its life have passed.
func RenewAt(cert *x509.Certificate) time.Time {
	return cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) * 2 / 3)
}
