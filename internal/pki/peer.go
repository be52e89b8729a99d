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

const (
	masterName = "master"
	hostPrefix = "host:"
)

// Peer reads from a certificate that TLS has verified who its owner is; name is a host's.
func Peer(cert *x509.Certificate) (role Role, name api.Name, err error) {
	cn := cert.Subject.CommonName
	if cn == masterName {
		return RoleMaster, "", nil
	}
	host, ok := strings.CutPrefix(cn, hostPrefix)
	if !ok || api.Name(host).Validate() != nil {
		return "", "", fmt.Errorf("the certificate's common name %.80q is neither %q nor %q and a host's name", cn, masterName, hostPrefix)
	}
	return RoleHost, api.Name(host), nil
}
