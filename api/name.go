package api

import (
	"fmt"
	"strings"
)

// Name names a resource: a lower-case DNS label (RFC 1123), 1 to 63 characters of a-z, 0-9
// and inner hyphens, as in "web" or "my-shop". It is safe in a path, a unit name, a DNS name and
// a configuration file, which is why every resource name has this one grammar.
type Name string

// MaxNameLen is the longest Name, in bytes (RFC 1035, section 2.3.4).
const MaxNameLen = 63

// Validate reports why n is not a Name.
func (n Name) Validate() error {
	switch {
	case n == "":
		return fmt.Errorf("a name is needed: lower-case letters, digits and hyphens, such as %q", "web")
	case len(n) > MaxNameLen:
		return fmt.Errorf("the name is %d characters long; at most %d are allowed", len(n), MaxNameLen)
	}
	for i := 0; i < len(n); i++ {
		if !isLabelByte(n[i]) {
			return fmt.Errorf("%q has %q at position %d; a name has only a-z, 0-9 and hyphens", string(n), n[i:i+1], i+1)
		}
	}
	if n[0] == '-' || n[len(n)-1] == '-' {
		return fmt.Errorf("%q starts or ends with a hyphen; a name starts and ends with a letter or digit", string(n))
	}
	return nil
}

func isLabelByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-'
}

// Hostname is a DNS host name of LDH labels in lower case, at most 253 characters, without a
// final dot, as in "shop.example.com" (RFC 1123, section 2.1).
type Hostname string

// Validate reports why h is not a Hostname.
func (h Hostname) Validate() error {
	if len(h) > 253 {
		return fmt.Errorf("the host name is %d characters long; at most 253 are allowed", len(h))
	}
	for label := range strings.SplitSeq(string(h), ".") {
		if err := Name(label).Validate(); err != nil {
			return fmt.Errorf("host name %q: %w", string(h), err)
		}
	}
	return nil
}

// UID identifies one resource for ever, also after its name is used again: 16 characters of
// a-z and 2-7, such as "k3v7qxw2m5n4a6bz". A pod's directory and namespace on a host are named for it.
type UID string

// UIDLen is the length of a UID in bytes.
const UIDLen = 16

// Validate reports why u is not a UID.
func (u UID) Validate() error {
	if len(u) != UIDLen {
		return fmt.Errorf("uid %q: %d characters are needed", string(u), UIDLen)
	}
	for i := 0; i < len(u); i++ {
		if c := u[i]; (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return fmt.Errorf("uid %q has %q; a uid has only a-z and 2-7", string(u), u[i:i+1])
		}
	}
	return nil
}
