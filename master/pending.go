package master

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/pki"
	"gearmesh.dev/master/store"
)

// Hosts that wait for a person's approval.

// pendingLife is how long a host waits for a person.
const pendingLife = time.Hour

// pendingRecord is a pending host as it is stored. What becomes a host is what the person has seen, not what a later request says.
type pendingRecord struct {
	api.PendingHost
	Token string `json:"token"` // the id of the token by which it waits
}

// live tells whether somebody still waits under the name.
func (p pendingRecord) live(now time.Time) bool {
	return p.Token != "" && p.State != api.PendingRejected && now.Before(p.Until)
}

// joinByApproval is join with a token that makes the host wait. The first key that shows the token has it; it asks until there is
// an answer, and may ask again for that.
func (m *Master) joinByApproval(c *call, h *api.Host, req *api.JoinRequest, token *redeemed) error {
	key, err := pki.RequestFingerprint([]byte(req.CSR))
	if err != nil {
		return api.Invalid("the request to join", []api.Fault{{Field: "csr", Message: err.Error()}})
	}
	switch rec := token.record; {
	case rec.Key == "":
		return m.await(c, h, key, token)
	case rec.Key != key:
		c.why = "another key than that of host " + string(rec.Host) + " shows it"
		return m.router.auth.failures.judge(remoteAddr(c.Request), tokenUsed(token.purpose))
	case rec.Joined != "":
		return m.welcomeAgain(c, req, token)
	}
	p, it, err := m.pendingNow(c.Context(), token.record.Host)
	switch {
	case err != nil:
		return err
	case p.Token != token.id || p.State == api.PendingRejected:
		c.why = "host " + string(token.record.Host) + " was rejected"
		return api.Errorf(api.CodeForbidden, "an administrator has rejected this host; ask them, and join with another token")
	case p.State == api.PendingApproved:
		h.Metadata.Name, h.Metadata.Labels, h.Spec.Address = p.Name, p.Labels, p.Address
		return m.welcome(c, h, req, token, store.Op{Kind: store.Delete, Key: it.Key, If: it.Revision})
	}
	c.again = true
	return c.answer(http.StatusAccepted, api.Identity{Name: p.Name, Pending: &p.PendingHost})
}

// await makes a host pending, under a name that no other has or waits for.
func (m *Master) await(c *call, h *api.Host, key string, token *redeemed) error {
	now := time.Now().UTC().Truncate(time.Second)
	wanted := h.Metadata.Name
	p := pendingRecord{Token: token.id, PendingHost: api.PendingHost{Address: h.Spec.Address, Labels: h.Metadata.Labels, Fingerprint: key,
		From: remoteAddr(c.Request), Asked: now, Until: now.Add(pendingLife), State: api.PendingWaiting}}
	for n := 1; n < maxNumbered; n++ {
		p.Name = numbered(wanted, n)
		old, it, err := m.pendingNow(c.Context(), p.Name)
		if err != nil {
			return err
		}
		if old.live(now) || m.cache.has(api.Key{Kind: api.KindHost, Name: p.Name}) {
			continue
		}
		rec := token.record
		rec.Host, rec.Key, rec.Expires = p.Name, key, p.Until
		_, err = m.txn(c.Context(), store.Op{Key: token.item.Key, Value: mustJSON(rec), If: token.item.Revision},
			store.Op{Key: pendingPrefix + string(p.Name), Value: mustJSON(p), If: cmp.Or(it.Revision, store.Absent)})
		if errors.Is(err, store.ErrConflict) && !m.usedMeanwhile(c.Context(), token) {
			continue
		}
		if err != nil {
			return err
		}
		c.object, c.result = fmt.Sprintf("host %s by token %s, key %s", p.Name, token.id, key), "waits for approval"
		return c.answer(http.StatusAccepted, api.Identity{Name: p.Name, Pending: &p.PendingHost})
	}
	return tooMany(wanted)
}

// welcomeAgain gives a host that has joined by approval its identity once more, since the answer may have been lost.
func (m *Master) welcomeAgain(c *call, req *api.JoinRequest, token *redeemed) error {
	name := api.Name(strings.TrimPrefix(token.record.Joined, "host "))
	keys, ok := m.cache.keysOf(name)
	r, _ := m.cache.get(api.Key{Kind: api.KindHost, Name: name})
	h, isHost := r.(*api.Host)
	if !ok || !isHost || !slices.Contains(keys.Keys, token.record.Key) {
		c.why = "it was used already by " + token.record.Joined
		return m.router.auth.failures.judge(remoteAddr(c.Request), tokenUsed(token.purpose))
	}
	cert, _, err := m.sign(h, req.CSR)
	if err != nil {
		return err
	}
	id, err := m.identity(c.Context(), h, cert)
	if err != nil {
		return err
	}
	c.object, c.result = token.record.Joined+" by token "+token.id, "given again"
	return c.answer(http.StatusCreated, id)
}

// pendingNow reads a pending host; there is none when its Token is "".
func (m *Master) pendingNow(ctx context.Context, name api.Name) (pendingRecord, store.Item, error) {
	it, err := m.store.Get(ctx, pendingPrefix+string(name))
	if errors.Is(err, store.ErrNotFound) {
		return pendingRecord{}, store.Item{}, nil
	}
	if err != nil {
		return pendingRecord{}, it, err
	}
	p, err := readPending(it)
	return p, it, err
}

func readPending(it store.Item) (pendingRecord, error) {
	var p pendingRecord
	if err := json.Unmarshal(it.Value, &p); err != nil {
		return p, fmt.Errorf("reading %q from the store: %w", it.Key, err)
	}
	return p, nil
}

// awaited tells whether a host waits for a name by another token.
func (m *Master) awaited(ctx context.Context, name api.Name, token string) bool {
	p, _, err := m.pendingNow(ctx, name)
	return err == nil && p.Token != token && p.live(time.Now())
}

// listPending answers GET /v1/pending: the hosts that wait, and those that were approved and have not come for it.
func (m *Master) listPending(c *call) error {
	items, _, err := m.store.List(c.Context(), pendingPrefix)
	if err != nil {
		return err
	}
	out := api.PendingList{Items: []api.PendingHost{}}
	for _, it := range items {
		p, err := readPending(it)
		if err != nil {
			return err
		}
		if p.live(time.Now()) {
			out.Items = append(out.Items, p.PendingHost)
		}
	}
	slices.SortFunc(out.Items, func(a, b api.PendingHost) int { return cmp.Compare(a.Name, b.Name) })
	return c.answer(http.StatusOK, out)
}

// judgePending answers POST /v1/pending/{name}: a person approves or rejects a host.
func (m *Master) judgePending(c *call) error {
	var v api.Verdict
	if err := api.Decode(c.body, &v); err != nil {
		return err
	}
	if err := v.Validate(); err != nil {
		return err
	}
	name := c.name("name")
	p, it, err := m.pendingNow(c.Context(), name)
	if err != nil {
		return err
	}
	if p.Token == "" || !time.Now().Before(p.Until) {
		return api.Errorf(api.CodeNotFound, "no host waits under the name %s; gear host pending lists those that do", name)
	}
	if v.Fingerprint != "" && v.Fingerprint != p.Fingerprint {
		return api.Invalid("the verdict", []api.Fault{{Field: "fingerprint", Message: fmt.Sprintf("the key of host %s has the fingerprint %s, not the one that you gave: it may be another machine", name, p.Fingerprint)}})
	}
	p.State, p.By = v.State, c.who.name
	if _, err := m.txn(c.Context(), store.Op{Key: it.Key, Value: mustJSON(p), If: it.Revision}); err != nil {
		return err
	}
	c.object, c.result = fmt.Sprintf("host %s by token %s, key %s", name, p.Token, p.Fingerprint), string(v.State)
	return c.answer(http.StatusOK, p.PendingHost)
}

// sweepPending removes pending hosts that nobody asks for any more.
func (m *Master) sweepPending(ctx context.Context) {
	items, _, err := m.store.List(ctx, pendingPrefix)
	for _, it := range items {
		if p, readErr := readPending(it); readErr == nil && time.Now().Before(p.Until.Add(tokenKept)) {
			continue
		}
		if _, txnErr := m.store.Txn(ctx, store.Op{Kind: store.Delete, Key: it.Key, If: it.Revision}); txnErr != nil {
			err = txnErr
		}
	}
	if err != nil {
		m.log.Warn("sweeping pending hosts", "error", err)
	}
}

// pendingRoutes are the routes of hosts that wait.
func (m *Master) pendingRoutes() []route {
	return []route{
		{id: "listPending", method: "GET", path: "/v1/pending", prompt: true, who: forPeople, summary: "The hosts that wait for approval", answer: reflect.TypeFor[api.PendingList](), handle: m.listPending},
		{id: "decidePending", method: "POST", path: "/v1/pending/{name}", prompt: true, who: forPeople, audit: true, summary: "Approve or reject a host that waits",
			body: reflect.TypeFor[api.Verdict](), answer: reflect.TypeFor[api.PendingHost](), handle: m.judgePending},
	}
}
