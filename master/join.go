package master

import (
	"context"
	"encoding/json"
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

// tokenRecord is a join token as it is stored: without its secret.
type tokenRecord struct {
	Hash    string    `json:"hash"` // pki.HashSecret
	Expires time.Time `json:"expires"`
	Master  bool      `json:"master,omitempty"` // the host may become a master too
	Joined  bool      `json:"joined,omitempty"` // of a master's token: the host has its identity
}

// createToken answers POST /v1/tokens.
func (m *Master) createToken(c *call) error {
	forMaster, err := masterToken(c.body)
	if err != nil {
		return err
	}
	t := pki.Token{ID: string(pki.NewUID())[:8], Secret: pki.NewSecret(), Pin: m.cfg.CA.Pin()}
	rec := tokenRecord{Hash: t.Hash(), Expires: time.Now().UTC().Add(m.cfg.TokenLife).Truncate(time.Second), Master: forMaster}
	if _, err := m.store.Txn(c.Context(), store.Op{Key: tokenPrefix + t.ID, Value: mustJSON(rec), If: store.Absent}); err != nil {
		return err
	}
	c.object, c.result = "token "+t.ID, resultCreated
	return c.answer(http.StatusCreated, api.JoinToken{Token: t.String(), Expires: rec.Expires})
}

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
	used, rec, err := m.redeemable(c.Context(), req.Token)
	if err != nil {
		if problemOf(err).Code == api.CodeUnauthorized {
			return m.router.auth.failures.judge(remoteAddr(c.Request), err)
		}
		return err
	}
	if rec.Joined {
		return api.Errorf(api.CodeUnauthorized, "the join token was used already; make another: gear token create --master")
	}
	id, err := m.admit(c.Context(), h, &req, useUp(used, rec))
	if err != nil {
		return err
	}
	c.object, c.result = "host "+string(id.Name), resultCreated
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

// redeemable finds the stored token. Whatever is wrong with it, the answer is the same.
func (m *Master) redeemable(ctx context.Context, text string) (store.Item, tokenRecord, error) {
	wrong := api.Errorf(api.CodeUnauthorized, "the join token is not known, was used already, or is over %s old; make another: gear token create", m.cfg.TokenLife)
	t, err := pki.ParseToken(text)
	if err != nil {
		return store.Item{}, tokenRecord{}, api.Errorf(api.CodeUnauthorized, "%v", err)
	}
	it, err := m.store.Get(ctx, tokenPrefix+t.ID)
	if errors.Is(err, store.ErrNotFound) {
		return it, tokenRecord{}, wrong
	}
	if err != nil {
		return it, tokenRecord{}, err
	}
	var rec tokenRecord
	if err := json.Unmarshal(it.Value, &rec); err != nil {
		return it, rec, fmt.Errorf("reading join token %q: %w", t.ID, err)
	}
	if !pki.SecretMatches(t.Secret, rec.Hash) || time.Now().After(rec.Expires) || t.Pin != m.cfg.CA.Pin() {
		return it, rec, wrong
	}
	return it, rec, nil
}

// useUp gives the write that lets no other host join with a token. One for a master stays, to be redeemed
// for that.
func useUp(token store.Item, rec tokenRecord) store.Op {
	if !rec.Master {
		return store.Op{Kind: store.Delete, Key: token.Key, If: token.Revision}
	}
	rec.Joined = true
	return store.Op{Key: token.Key, Value: mustJSON(rec), If: token.Revision}
}

// admit uses the token up and makes the host, in one transaction. A name that is taken is never
// given again: the host becomes NAME-2, NAME-3, ...
func (m *Master) admit(ctx context.Context, h *api.Host, req *api.JoinRequest, token store.Op) (api.Identity, error) {
	gossip, err := m.gossipKey(ctx)
	if err != nil {
		return api.Identity{}, err
	}
	h.Metadata.UID, h.Metadata.Created = pki.NewUID(), time.Now().UTC().Truncate(time.Millisecond)
	for n := 1; n < 1000; n++ {
		h.Metadata.Name = numbered(req.Name, n)
		if m.cache.has(h.Key()) {
			continue
		}
		cert, err := m.admitAs(ctx, h, req.CSR, token)
		if errors.Is(err, store.ErrConflict) {
			if it, err := m.store.Get(ctx, token.Key); errors.Is(err, store.ErrNotFound) || err == nil && it.Revision != token.If {
				return api.Identity{}, api.Errorf(api.CodeUnauthorized, "the join token was used already; make another: gear token create")
			}
			continue
		}
		if err != nil {
			return api.Identity{}, err
		}
		return api.Identity{Name: h.Metadata.Name, Certificate: string(cert), CA: string(m.cfg.CA.PEM()),
			GossipKey: gossip, Domain: m.cfg.Domain, Peers: m.peers(h.Metadata.Name)}, nil
	}
	return api.Identity{}, api.Errorf(api.CodeExists, "there are 1000 hosts named like %q; choose another name", req.Name)
}

func (m *Master) admitAs(ctx context.Context, h *api.Host, csr string, token store.Op) ([]byte, error) {
	cert, keys, err := m.sign(h, csr)
	if err != nil {
		return nil, err
	}
	data, err := encode(h)
	if err != nil {
		return nil, err
	}
	_, err = m.txn(ctx, token,
		store.Op{Key: storeKey(h.Key()), Value: data, If: store.Absent},
		store.Op{Key: hostKeyPrefix + string(h.Metadata.Name), Value: mustJSON(keys), If: store.Any})
	return cert, err
}

// sign makes a certificate for a host, and the record of the key it is for.
func (m *Master) sign(h *api.Host, csr string) ([]byte, hostKeys, error) {
	cert, err := m.cfg.CA.SignHost([]byte(csr), h.Metadata.Name, h.Spec.Address, time.Now())
	if err != nil {
		return nil, hostKeys{}, api.Invalid("the request", []api.Fault{{Field: "csr", Message: err.Error()}})
	}
	leaf, err := pki.ParseCert(cert)
	if err != nil {
		return nil, hostKeys{}, err
	}
	return cert, hostKeys{UID: h.Metadata.UID, Keys: []string{keyHash(leaf)}}, nil
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
	v := m.views.current(m.term())
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

// gossipKey gives the mesh's key, made when the first host joins.
func (m *Master) gossipKey(ctx context.Context) ([]byte, error) {
	it, err := m.store.Get(ctx, gossipKey)
	if !errors.Is(err, store.ErrNotFound) {
		return it.Value, err
	}
	key := pki.NewGossipKey()
	_, err = m.store.Txn(ctx, store.Op{Key: gossipKey, Value: key, If: store.Absent})
	if errors.Is(err, store.ErrConflict) { // another host joined at the same moment
		it, err = m.store.Get(ctx, gossipKey)
		return it.Value, err
	}
	return key, err
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
	keys.Keys = append(keys.Keys, keyHash(c.TLS.VerifiedChains[0][0]))
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
