package install

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"

	"gearmesh.dev/internal/atomicfile"
	"gearmesh.dev/internal/pki"
)

// Renew gives the host of dir (AgentDir) a fresh certificate, for the key it has: sign sends a
// PKCS #10 request in PEM to the master and gives its answer. The old certificate stays unless the
// new one fits. Keeping the key makes this one atomic write.
func Renew(dir string, sign func(csr []byte) (string, error)) error {
	keyPEM, err := os.ReadFile(filepath.Join(dir, KeyFile))
	if err != nil {
		return fmt.Errorf("renewing the host's certificate: %w", err)
	}
	key, err := pki.ParseKey(keyPEM)
	if err != nil {
		return fmt.Errorf("renewing the host's certificate: %w", err)
	}
	csr, err := pki.NewRequest(key)
	if err != nil {
		return fmt.Errorf("renewing the host's certificate: %w", err)
	}
	text, err := sign(csr)
	if err != nil {
		return fmt.Errorf("renewing the host's certificate: %w", err)
	}
	if _, err := tls.X509KeyPair([]byte(text), keyPEM); err != nil {
		return fmt.Errorf("renewing the host's certificate: the master's answer does not fit the host's key: %w", err)
	}
	return atomicfile.Write(filepath.Join(dir, CertFile), []byte(text), 0o444)
}
