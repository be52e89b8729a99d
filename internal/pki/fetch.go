package pki

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// fetchTime bounds the handshake of FetchCA.
const fetchTime = 10 * time.Second

// FetchCA asks the server at addr (host:port) for its chain and gives the CA in it whose Pin is
// pin. Nothing is sent to a server that has not shown it.
//
// The handshake trusts nobody, and so it always fails; the error carries the chain that the server
// showed. The pin makes the CA known; whether the server holds a key that this CA has signed,
// the next connection verifies, with the CA as its only root.
func FetchCA(ctx context.Context, addr, pin string) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	dialer := &tls.Dialer{
		NetDialer: &net.Dialer{},
		Config:    &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: x509.NewCertPool()},
	}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err == nil {
		conn.Close()
		return nil, fmt.Errorf("asking %q for its CA: a handshake without trust succeeded", addr)
	}
	var unverified *tls.CertificateVerificationError
	if !errors.As(err, &unverified) {
		return nil, fmt.Errorf("asking %q for its CA: %w%s", addr, err, inTheWay(err))
	}
	return pinned(addr, pin, unverified.UnverifiedCertificates)
}

// inTheWay says what to look at when a host is there and its port cannot be reached.
func inTheWay(err error) string {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, syscall.EHOSTUNREACH) {
		return "; is a firewall in the way? gear up on that host says what to open"
	}
	return ""
}

func pinned(addr, pin string, chain []*x509.Certificate) (*x509.Certificate, error) {
	for _, cert := range chain {
		if subtle.ConstantTimeCompare([]byte(Pin(cert)), []byte(pin)) != 1 {
			continue
		}
		if !cert.IsCA {
			return nil, fmt.Errorf("the certificate of %q that the token pins is no CA", addr)
		}
		if _, err := chain[0].Verify(x509.VerifyOptions{Roots: Pool(cert)}); err != nil {
			return nil, fmt.Errorf("%q shows the right CA but a certificate that is not of it: %w", addr, err)
		}
		return cert, nil
	}
	return nil, fmt.Errorf("%q belongs to another cluster than the token, or someone stands between: "+
		"none of its %d certificates has the pin %q; make a new token on the master", addr, len(chain), pin)
}
