package pki

import (
	"crypto/x509"
	"fmt"
	"strings"

	"gearmesh.dev/api"
)

// Role says what the owner of a certificate is.
type Role string

// The roles.
const (
	RoleHost   Role = "host"
	RoleMaster Role = "master"
)

// MasterName is the common name of masters, and a DNS name that all their certificates are good for.
const MasterName = "master"

// hostPrefix opens the common name of hosts.
const hostPrefix = "host:"

// Peer reads from a certificate that TLS has verified who its owner is; name is a host's.
func Peer(cert *x509.Certificate) (role Role, name api.Name, err error) {
	cn := cert.Subject.CommonName
	if cn == MasterName {
		return RoleMaster, "", nil
	}
	host, ok := strings.CutPrefix(cn, hostPrefix)
	if !ok || api.Name(host).Validate() != nil {
		return "", "", fmt.Errorf("the certificate's common name %.80q is neither %q nor %q and a host's name", cn, MasterName, hostPrefix)
	}
	return RoleHost, api.Name(host), nil
}
