package master

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/pki"
	"gearmesh.dev/master/store"
)

// tokenRecord is a join token as it is stored: without its secret. One that was used stays until it is swept, so that who
// shows it again is told, and the audit record says who used it.
type tokenRecord struct {
	Hash    string    `json:"hash"` // pki.HashSecret
	Expires time.Time `json:"expires"`
	Master  bool      `json:"master,omitempty"` // the host may become a master too
	Joined  string    `json:"joined,omitempty"` // the host that has its identity by it, as "host h1"
	Seated  string    `json:"seated,omitempty"` // the master that has its seat by it, as "master h1"

	Approve bool     `json:"approve,omitempty"` // a person must approve the host
	Host    api.Name `json:"host,omitempty"`    // that waits or has waited for it
	Key     string   `json:"key,omitempty"`     // its fingerprint: nobody else gets anything by this token
}

// tokenKept is how long a token is known after it ran out, for the sake of its answer and its audit record.
const tokenKept = time.Hour

// purpose is what a token is shown for. One for a master is good for both, once each.
type purpose bool

const (
	forHostToken   purpose = false
	forMasterToken purpose = true
)

// another says how to get another token for the same.
func (p purpose) another() string {
	if p == forMasterToken {
		return "make another: gear token create --master"
	}
	return "make another: gear token create"
}

// usedBy names who used a token for a purpose; "" when nobody has.
func (t tokenRecord) usedBy(p purpose) string {
	if p == forMasterToken {
		return t.Seated
	}
	return t.Joined
}

// createToken answers POST /v1/tokens.
func (m *Master) createToken(c *call) error {
	var req api.TokenRequest
	if len(c.body) > 0 { // an empty one is for a host
		if err := api.Decode(c.body, &req); err != nil {
			return err
		}
		if err := req.Validate(); err != nil {
			return err
		}
	}
	t := pki.Token{ID: string(pki.NewUID())[:8], Secret: pki.NewSecret(), Pin: m.cfg.CA.Pin()}
	rec := tokenRecord{Hash: t.Hash(), Expires: time.Now().UTC().Add(m.cfg.TokenLife).Truncate(time.Second),
		Master: req.Master, Approve: req.Approve}
	if _, err := m.store.Txn(c.Context(), store.Op{Key: tokenPrefix + t.ID, Value: mustJSON(rec), If: store.Absent}); err != nil {
		return err
	}
	c.object, c.result = "token "+t.ID, resultCreated
	return c.answer(http.StatusCreated, api.JoinToken{Token: t.String(), Expires: rec.Expires})
}

// redeemed is a token that is good for its purpose, and not used yet.
type redeemed struct {
	id      string
	item    store.Item
	record  tokenRecord
	purpose purpose
}

// use gives the write that uses the token up. It fails when somebody else was quicker.
func (r *redeemed) use(by string) store.Op {
	rec := r.record
	if r.purpose == forMasterToken {
		rec.Seated = by
	} else {
		rec.Joined = by
	}
	return store.Op{Key: r.item.Key, Value: mustJSON(rec), If: r.item.Revision}
}

// redeem finds the token that somebody shows, and refuses one that is no good for what it is shown for. Refusals count for
// the sender's address, and the audit record says which token it was, who wanted to be what, and why not.
func (m *Master) redeem(c *call, text string, p purpose, who string) (*redeemed, error) {
	c.object = who
	t, err := pki.ParseToken(text)
	if err != nil {
		c.why = "what was shown is no token"
		return nil, m.router.auth.failures.judge(remoteAddr(c.Request), api.Errorf(api.CodeUnauthorized, "%v", err))
	}
	c.object += " by token " + t.ID
	r, err := m.tokenNow(c.Context(), t.ID)
	if err != nil {
		return nil, err
	}
	why, err := r.record.refuse(t, p, m.cfg.CA.Pin(), time.Now())
	if err != nil {
		c.why = why
		return nil, m.router.auth.failures.judge(remoteAddr(c.Request), err)
	}
	r.purpose = p
	return r, nil
}

// tokenNow reads a stored token; one that is not known has an empty record, whose hash no secret has.
func (m *Master) tokenNow(ctx context.Context, id string) (*redeemed, error) {
	it, err := m.store.Get(ctx, tokenPrefix+id)
	if errors.Is(err, store.ErrNotFound) {
		return &redeemed{id: id}, nil
	}
	if err != nil {
		return nil, err
	}
	r := &redeemed{id: id, item: it}
	if err := json.Unmarshal(it.Value, &r.record); err != nil {
		return nil, fmt.Errorf("reading join token %q: %w", id, err)
	}
	return r, nil
}

// refuse gives why a token is no good, for the audit record, and what its sender is told. Who does not know the secret learns
// nothing of the token.
func (t tokenRecord) refuse(shown pki.Token, p purpose, pin string, now time.Time) (why string, err error) {
	switch {
	case t.Hash == "":
		why = "there is no such token"
	case !pki.SecretMatches(shown.Secret, t.Hash):
		why = "the secret is not the token's"
	case shown.Pin != pin:
		return "it pins another CA", api.Errorf(api.CodeUnauthorized, "the join token's last part is not this cluster's: it was changed, or someone stands between; %s", p.another())
	case now.After(t.Expires) && t.Host != "" && t.Joined == "":
		return "its host waited for approval until " + t.Expires.Format(time.RFC3339), api.Errorf(api.CodeUnauthorized,
			"this host has waited for approval until %s, in vain; %s --approve, and tell an administrator", t.Expires.Format(time.RFC3339), p.another())
	case now.After(t.Expires):
		return "it ran out at " + t.Expires.Format(time.RFC3339), api.Errorf(api.CodeUnauthorized, "the join token ran out at %s; %s", t.Expires.Format(time.RFC3339), p.another())
	case p == forMasterToken && !t.Master:
		return "it is for a host, not for a master", api.Errorf(api.CodeForbidden, "this token lets a host join, not a master; %s", p.another())
	case t.usedBy(p) != "" && t.Key == "": // of one with a key, that key is asked for next
		return "it was used already by " + t.usedBy(p), tokenUsed(p)
	default:
		return "", nil
	}
	return why, api.Errorf(api.CodeUnauthorized, "the join token is not known here, or ran out long ago; was it copied whole? Else %s", p.another())
}

func tokenUsed(p purpose) error {
	return api.Errorf(api.CodeUnauthorized, "the join token was used already; %s", p.another())
}

// usedMeanwhile tells whether a token is another than when it was redeemed.
func (m *Master) usedMeanwhile(ctx context.Context, r *redeemed) bool {
	it, err := m.store.Get(ctx, r.item.Key)
	return errors.Is(err, store.ErrNotFound) || err == nil && it.Revision != r.item.Revision
}

// sweepTokens removes join tokens that can no longer be used.
func (m *Master) sweepTokens(ctx context.Context) {
	items, _, err := m.store.List(ctx, tokenPrefix)
	if err != nil {
		m.log.Warn("sweeping join tokens", "error", err)
		return
	}
	for _, it := range items {
		var t tokenRecord
		if json.Unmarshal(it.Value, &t) == nil && time.Now().Before(t.Expires.Add(tokenKept)) {
			continue
		}
		if _, err := m.store.Txn(ctx, store.Op{Kind: store.Delete, Key: it.Key, If: it.Revision}); err != nil {
			m.log.Warn("sweeping join tokens", "error", err)
		}
	}
}
