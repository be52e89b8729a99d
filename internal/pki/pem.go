package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// The kinds of PEM block this package reads and writes.
const (
	certBlock    = "CERTIFICATE"
	keyBlock     = "PRIVATE KEY"
	requestBlock = "CERTIFICATE REQUEST"
)

// maxRequest bounds a signing request, in bytes of PEM; ours have about 500.
const maxRequest = 8192

// NewKey makes a private key.
func NewKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return key, nil
}

// NewRequest makes a signing request for a key, in PEM. It carries no name: the signer sets it.
func NewRequest(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{}}, key)
	if err != nil {
		return nil, fmt.Errorf("making a signing request: %w", err)
	}
	return encode(requestBlock, der), nil
}

// requestKey gives the public key of a signing request, and nothing else of it. The request must
// be signed by that key: who sends it holds the key.
func requestKey(csrPEM []byte) (*ecdsa.PublicKey, error) {
	if len(csrPEM) > maxRequest {
		return nil, fmt.Errorf("the signing request has %d bytes; at most %d are allowed", len(csrPEM), maxRequest)
	}
	der, err := decode(requestBlock, csrPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the signing request: %w", err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("reading the signing request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the signing request is not signed by its own key: %w", err)
	}
	pub, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, fmt.Errorf("the signing request has a key of type %s; ECDSA on P-256 is needed", csr.PublicKeyAlgorithm)
	}
	return pub, nil
}

// RequestFingerprint gives the SHA-256 of the public key of a signing request, in hex: what people compare, and what Fingerprint
// gives of the certificate that is made of it.
func RequestFingerprint(csrPEM []byte) (string, error) {
	pub, err := requestKey(csrPEM)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("encoding a public key: %w", err)
	}
	return fingerprint(der), nil
}

// Fingerprint gives the SHA-256 of the public key of a certificate, in hex.
func Fingerprint(cert *x509.Certificate) string { return fingerprint(cert.RawSubjectPublicKeyInfo) }

func fingerprint(spki []byte) string {
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:])
}

// CertPEM gives a certificate in PEM.
func CertPEM(cert *x509.Certificate) []byte { return encode(certBlock, cert.Raw) }

// KeyPEM gives a private key in PEM (PKCS #8).
func KeyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a key: %w", err)
	}
	return encode(keyBlock, der), nil
}

// ParseCert reads the first certificate of a PEM text.
func ParseCert(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != certBlock {
		return nil, errors.New("no certificate in PEM is given")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading a certificate: %w", err)
	}
	return cert, nil
}

// ParseKey reads the private key that a PEM text consists of.
func ParseKey(text []byte) (*ecdsa.PrivateKey, error) {
	der, err := decode(keyBlock, text)
	if err != nil {
		return nil, fmt.Errorf("reading a key: %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("reading a key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("reading a key: it is a %T, an ECDSA key is needed", parsed)
	}
	return key, nil
}

// Pin gives the SHA-256 of a certificate in base64url without padding, 43 characters.
func Pin(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// decode takes the one block that text consists of.
func decode(kind string, text []byte) ([]byte, error) {
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return nil, errors.New("it is not in PEM")
	case block.Type != kind:
		return nil, fmt.Errorf("it is a %q; a %q is needed", block.Type, kind)
	case len(rest) > 0:
		return nil, fmt.Errorf("%d bytes stand after its end", len(rest))
	}
	return block.Bytes, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
