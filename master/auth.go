package master

import (
	"crypto/subtle"
	"crypto/x509"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/pki"
)

// principal is a kind of caller.
type principal int

const (
	nobody principal = iota
	person
	host
)

// identity is who a request comes from.
type identity struct {
	kind principal
	name api.Name
}

// String gives the identity for logs and messages.
func (i identity) String() string {
	switch i.kind {
	case person:
		return "person:" + string(i.name)
	case host:
		return "host:" + string(i.name)
	}
	return "nobody"
}

// Person is someone who may use the API.
type Person struct {
	Name      api.Name // for the audit log
	TokenHash string   // pki.HashSecret of the bearer token
}

// hostKeys is which public keys a host may show: the one it has, and the one before, which may
// still be in use when a renewal's answer was lost.
type hostKeys struct {
	UID  api.UID  `json:"uid"`  // of the host; a later host with the same name is another
	Keys []string `json:"keys"` // SHA-256 of the subject public key info, in hex, newest first
}

// authenticator finds out who a request comes from.
type authenticator struct {
	people   []Person
	known    func(api.Name) (hostKeys, bool) // of the hosts that exist
	failures *failures
}

// identify gives the identity of a request; a wrong one is an error. Routes open to anybody ask
// for none.
func (a *authenticator) identify(r *http.Request, who caller) (identity, error) {
	if who == forAnybody {
		return identity{}, nil
	}
	if header := r.Header.Get("Authorization"); header != "" {
		id, err := a.byToken(header)
		return id, a.failures.judge(remoteAddr(r), err)
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		id, err := a.byCertificate(r.TLS.VerifiedChains[0][0])
		return id, a.failures.judge(remoteAddr(r), err)
	}
	return identity{}, nil
}

func (a *authenticator) byToken(header string) (identity, error) {
	scheme, token, _ := strings.Cut(header, " ")
	found := identity{}
	if strings.EqualFold(scheme, "Bearer") {
		for _, p := range a.people { // all of them, so that the time tells nothing
			if pki.SecretMatches(token, p.TokenHash) {
				found = identity{person, p.Name}
			}
		}
	}
	if found.kind == nobody {
		return found, api.Errorf(api.CodeUnauthorized, "the token is not known; is it the right cluster, and was it copied whole?")
	}
	return found, nil
}

func (a *authenticator) byCertificate(cert *x509.Certificate) (identity, error) {
	role, name, err := pki.Peer(cert)
	if err != nil || role != pki.RoleHost {
		return identity{}, api.Errorf(api.CodeUnauthorized, "the certificate is no host's")
	}
	if time.Now().After(cert.NotAfter) { // TLS looked when the connection was made, maybe long ago
		return identity{}, api.Errorf(api.CodeUnauthorized, "the host's certificate ran out; connect with the renewed one")
	}
	if !a.knows(name, pki.Fingerprint(cert)) {
		return identity{}, api.Errorf(api.CodeUnauthorized, "the host's identity has been withdrawn; let it join again: gear token create, then gear join")
	}
	return identity{host, name}, nil
}

// knows tells whether a key is one that a host may show.
func (a *authenticator) knows(host api.Name, sum string) bool {
	keys, ok := a.known(host)
	return ok && slices.ContainsFunc(keys.Keys, func(k string) bool { return subtle.ConstantTimeCompare([]byte(k), []byte(sum)) == 1 })
}

// still gives what tells whether the host of a stream may go on to see it: it may have been deleted, or its certificate may have
// run out, since the stream was opened.
func (a *authenticator) still(cert *x509.Certificate) func() bool {
	_, name, err := pki.Peer(cert)
	sum := pki.Fingerprint(cert)
	return func() bool { return err == nil && time.Now().Before(cert.NotAfter) && a.knows(name, sum) }
}

func remoteAddr(r *http.Request) netip.Addr {
	at, _ := netip.ParseAddrPort(r.RemoteAddr)
	return at.Addr().Unmap()
}

const (
	// failuresAllowed wrong identities may come from one address within failureWindow.
	failuresAllowed = 20
	failureWindow   = time.Minute
	// failureAddrs bounds the memory for addresses; when it is full, all are forgotten.
	failureAddrs = 10000
)

// failures counts wrong identities by address.
type failures struct {
	mu     sync.Mutex
	counts map[netip.Addr]failureCount
}

type failureCount struct {
	since time.Time
	n     int
}

// judge counts a wrong identity and slows its sender down when it is one of many. A right one
// passes always: behind one address there may be others who are in the right.
func (f *failures) judge(from netip.Addr, err error) error {
	if err == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.counts == nil || len(f.counts) >= failureAddrs {
		f.counts = map[netip.Addr]failureCount{}
	}
	c := f.counts[from]
	if time.Since(c.since) > failureWindow {
		c = failureCount{since: time.Now()}
	}
	c.n++
	f.counts[from] = c
	if c.n > failuresAllowed {
		return api.Errorf(api.CodeRateLimited, "too many wrong identities came from %s; wait a minute", from)
	}
	return err
}
