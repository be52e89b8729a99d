package master

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/pki"
	"gearmesh.dev/master/store"
)

// revokedRecord withdraws all certificates of a host's name that were issued until a time. It goes by the time and not by the
// keys: a host may have had many keys, of which the store knows the newest alone.
type revokedRecord struct {
	Issued time.Time `json:"issued"`
}

// clockMargin is how far the clocks of two masters may be apart, so that a certificate that one of them has just given is withdrawn
// by the other.
const clockMargin = 5 * time.Minute

// revoke gives the write that withdraws a host's certificates.
func revoke(host api.Name, now time.Time) store.Op {
	rec := revokedRecord{Issued: now.Add(clockMargin).UTC().Truncate(time.Second)}
	return store.Op{Key: revokedPrefix + string(host), Value: mustJSON(rec), If: store.Any}
}

// expulsion gives the writes that take a host's word away: its certificates, and what it last said of its endpoints.
func expulsion(host api.Name) []store.Op {
	return []store.Op{erase(endpointsPrefix + string(host)), erase(hostKeyPrefix + string(host)), revoke(host, time.Now())}
}

// issueAt gives when a certificate for a name is issued: now, or after what was withdrawn of an earlier host of that name.
func (c *cache) issueAt(host api.Name, now time.Time) time.Time {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if next := c.revoked[host].Issued.Add(time.Second); next.After(now) {
		return next
	}
	return now
}

// refuses tells whether a certificate was withdrawn.
func (c *cache) refuses(host api.Name, issued time.Time) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	r, ok := c.revoked[host]
	return ok && !issued.After(r.Issued)
}

// revokedLocked gives what hosts are told of withdrawn certificates, sorted by name.
func (c *cache) revokedLocked() []api.RevokedEntry {
	var out []api.RevokedEntry
	for host, r := range c.revoked {
		out = append(out, api.RevokedEntry{Host: host, Issued: r.Issued})
	}
	slices.SortFunc(out, func(a, b api.RevokedEntry) int { return cmp.Compare(a.Host, b.Host) })
	return out
}

// sweepRevoked forgets what was withdrawn when all of it has run out.
func (m *Master) sweepRevoked(ctx context.Context) {
	items, _, err := m.store.List(ctx, revokedPrefix)
	for _, it := range items {
		var r revokedRecord
		if json.Unmarshal(it.Value, &r) == nil && time.Now().Before(r.Issued.Add(pki.LeafLifetime+clockMargin)) {
			continue
		}
		if _, txnErr := m.store.Txn(ctx, store.Op{Kind: store.Delete, Key: it.Key, If: it.Revision}); txnErr != nil {
			err = txnErr
		}
	}
	if err != nil {
		m.log.Warn("sweeping withdrawn certificates", "error", err)
	}
}
