package master

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/pki"
	"gearmesh.dev/master/store"
)

// join answers POST /v1/join: a host with a token gets its identity.
func (m *Master) join(c *call) error {
	var req api.JoinRequest
	if err := api.Decode(c.body, &req); err != nil {
		return err
	}
	h, err := newHost(&req)
	if err != nil {
		return err
	}
	token, err := m.redeem(c, req.Token, forHostToken, "host "+string(req.Name))
	if err != nil {
		return err
	}
	if token.record.Approve {
		return m.joinByApproval(c, h, &req, token)
	}
	return m.welcome(c, h, &req, token)
}

// welcome makes the host, and answers with its identity.
func (m *Master) welcome(c *call, h *api.Host, req *api.JoinRequest, token *redeemed, more ...store.Op) error {
	id, err := m.admit(c.Context(), h, req, token, more...)
	if err != nil {
		return err
	}
	c.object, c.result = "host "+string(id.Name)+" by token "+token.id, resultCreated
	return c.answer(http.StatusCreated, id)
}

// newHost makes the host that a request asks for, and checks it.
func newHost(req *api.JoinRequest) (*api.Host, error) {
	h := api.New(api.KindHost).(*api.Host)
	h.Metadata.Name, h.Metadata.Labels, h.Spec.Address = req.Name, req.Labels, req.Address.Unmap()
	faults := h.Validate()
	for i := range faults { // the request is flatter than a host
		faults[i].Field = strings.TrimPrefix(faults[i].Field, "metadata.")
	}
	switch req.Name {
	case "master", "localhost": // certificates are good for names: these mean others
		faults = append(faults, api.Fault{Field: "name", Message: fmt.Sprintf("%q is reserved; choose another", req.Name)})
	}
	if a := req.Address; !a.IsValid() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
		faults = append(faults, api.Fault{Field: "address", Message: "an address is needed at which other hosts reach this one, such as 10.0.0.5"})
	}
	if len(faults) > 0 {
		return nil, api.Invalid("the request to join", faults)
	}
	return h, nil
}

// admit uses the token up and makes the host, in one transaction with more. A name that is taken is never
// given again: the host becomes NAME-2, NAME-3, ...
func (m *Master) admit(ctx context.Context, h *api.Host, req *api.JoinRequest, token *redeemed, more ...store.Op) (api.Identity, error) {
	if _, err := m.gossipNow(ctx); err != nil {
		return api.Identity{}, err
	}
	h.Metadata.UID, h.Metadata.Created = pki.NewUID(), time.Now().UTC().Truncate(time.Millisecond)
	wanted := h.Metadata.Name
	for n := 1; n < maxNumbered; n++ {
		h.Metadata.Name = numbered(wanted, n)
		if m.cache.has(h.Key()) || m.awaited(ctx, h.Metadata.Name, token.id) {
			continue
		}
		cert, err := m.admitAs(ctx, h, req.CSR, append(more, token.use("host "+string(h.Metadata.Name)))...)
		if errors.Is(err, store.ErrConflict) {
			if m.usedMeanwhile(ctx, token) {
				return api.Identity{}, tokenUsed(token.purpose)
			}
			continue
		}
		if err != nil {
			return api.Identity{}, err
		}
		return m.identity(ctx, h, cert)
	}
	return api.Identity{}, tooMany(wanted)
}

// maxNumbered bounds how many hosts may want one name.
const maxNumbered = 1000

func tooMany(name api.Name) error {
	return api.Errorf(api.CodeExists, "there are %d hosts named like %q; choose another name", maxNumbered, name)
}

// identity gives a host what it needs besides its key.
func (m *Master) identity(ctx context.Context, h *api.Host, cert []byte) (api.Identity, error) {
	gossip, err := m.gossipNow(ctx)
	if err != nil {
		return api.Identity{}, err
	}
	return api.Identity{Name: h.Metadata.Name, Certificate: string(cert), CA: string(m.cfg.CA.PEM()),
		GossipKey: gossip.Keys[0], Domain: m.cfg.Domain, Peers: m.peers(h.Metadata.Name)}, nil
}

func (m *Master) admitAs(ctx context.Context, h *api.Host, csr string, more ...store.Op) ([]byte, error) {
	cert, keys, err := m.sign(h, csr)
	if err != nil {
		return nil, err
	}
	data, err := encode(h)
	if err != nil {
		return nil, err
	}
	_, err = m.txn(ctx, append(more,
		store.Op{Key: storeKey(h.Key()), Value: data, If: store.Absent},
		store.Op{Key: hostKeyPrefix + string(h.Metadata.Name), Value: mustJSON(keys), If: store.Any})...)
	return cert, err
}

// sign makes a certificate for a host, and the record of the key it is for.
func (m *Master) sign(h *api.Host, csr string) ([]byte, hostKeys, error) {
	cert, err := m.cfg.CA.SignHost([]byte(csr), h.Metadata.Name, h.Spec.Address, m.cache.issueAt(h.Metadata.Name, time.Now()))
	if err != nil {
		return nil, hostKeys{}, api.Invalid("the request", []api.Fault{{Field: "csr", Message: err.Error()}})
	}
	leaf, err := pki.ParseCert(cert)
	if err != nil {
		return nil, hostKeys{}, err
	}
	return cert, hostKeys{UID: h.Metadata.UID, Keys: []string{pki.Fingerprint(leaf)}}, nil
}

// numbered gives the nth name to try: web, web-2, web-3, shortened to fit.
func numbered(name api.Name, n int) api.Name {
	if n == 1 {
		return name
	}
	suffix := fmt.Sprintf("-%d", n)
	room := api.MaxNameLen - len(suffix)
	return api.Name(strings.TrimRight(string(name[:min(len(name), room)]), "-") + suffix)
}

// maxPeers is how many hosts a new one is told of: enough to find the mesh.
const maxPeers = 8

// peers gives hosts whose mesh a new host can join.
func (m *Master) peers(but api.Name) []netip.Addr {
	v := m.views.recent(m.term())
	var good, rest []netip.Addr
	for i := range v.Hosts {
		h := &v.Hosts[i]
		switch {
		case h.Metadata.Name == but || !h.Spec.Address.IsValid():
		case v.HostStatus(h).State == api.HostReady:
			good = append(good, h.Spec.Address)
		default:
			rest = append(rest, h.Spec.Address)
		}
	}
	all := slices.Concat(good, rest)
	return all[:min(len(all), maxPeers)]
}

// renewed is the answer to a request for a certificate.
type renewed struct {
	Certificate string `json:"certificate" doc:"PEM: the host's, then the CA's"`
}

// renew answers POST /v1/hosts/{name}/certificate. The old key stays good until the next renewal:
// the answer may be lost.
func (m *Master) renew(c *call) error {
	var req api.CertificateRequest
	if err := api.Decode(c.body, &req); err != nil {
		return err
	}
	r, err := m.load(c.Context(), api.Key{Kind: api.KindHost, Name: c.name("name")})
	if err != nil {
		return err
	}
	h := r.(*api.Host)
	cert, keys, err := m.sign(h, req.CSR)
	if err != nil {
		return err
	}
	key := hostKeyPrefix + string(h.Metadata.Name)
	it, err := m.store.Get(c.Context(), key)
	if err != nil {
		return err
	}
	keys.Keys = append(keys.Keys, pki.Fingerprint(c.TLS.VerifiedChains[0][0]))
	keys.Keys = slices.Compact(keys.Keys)
	if _, err := m.txn(c.Context(), store.Op{Key: key, Value: mustJSON(keys), If: it.Revision},
		store.Op{Kind: store.Check, Key: storeKey(h.Key()), If: h.Metadata.Revision}); err != nil {
		return err
	}
	c.result = "renewed"
	return c.answer(http.StatusOK, renewed{string(cert)})
}

// keysOf gives the keys that a host may show, when the host exists.
func (c *cache) keysOf(name api.Name) (hostKeys, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	h, ok := c.objects[api.KindHost][api.Key{Kind: api.KindHost, Name: name}]
	keys := c.hostKeys[name]
	return keys, ok && keys.UID == h.Head().Metadata.UID
}
