package master

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/pki"
	"gearmesh.dev/internal/seal"
	"gearmesh.dev/master/store"
	"gearmesh.dev/master/store/memory"
)

// lies tells whether a key of the mesh can be read in the store.
func (c *cluster) lies(key []byte) bool {
	text := c.stored()
	return strings.Contains(text, string(key)) || strings.Contains(text, base64.StdEncoding.EncodeToString(key))
}

// TestTheKeyOfTheMeshIsSealed: it is in no word of the store, from the first host on and over its change.
func TestTheKeyOfTheMeshIsSealed(t *testing.T) {
	c := startCluster(t)
	h1 := c.join("h1", "10.0.0.1")
	h1.has(1)
	d := h1.desire()
	d.until("the key", func(d api.Desired) bool { return d.Gossip != nil })
	first := d.Gossip.Keys[0]
	c.ann().must("POST", "/v1/mesh/rotate", nil, http.StatusOK)
	d.until("the new key", func(d api.Desired) bool { return len(d.Gossip.Keys) == 2 })
	if c.lies(first) || c.lies(d.Gossip.Keys[1]) {
		t.Error("a key can be read in the store")
	}
}

// TestAnOpenKeyOfTheMeshIsSealed: a store of an earlier version has it as it is, in one of two forms. While a master of another version is
// known, which could not read a sealed one, it stays so.
func TestAnOpenKeyOfTheMeshIsSealed(t *testing.T) {
	key := pki.NewGossipKey()
	ring := newRing(key, time.Now().UTC().Truncate(time.Second))
	for name, value := range map[string][]byte{"the key alone": key, "with its step": ring.store(nil)} {
		t.Run(name, func(t *testing.T) {
			s := memory.New()
			old := masterRecord{Version: "older"}
			if _, err := s.Txn(t.Context(), store.Op{Key: gossipKey, Value: value, If: store.Any}, store.Op{Key: masterPrefix + "m9", Value: mustJSON(old), If: store.Any}); err != nil {
				t.Fatal(err)
			}
			c := startOver(t, s)
			h1 := c.join("h1", "10.0.0.1")
			d := h1.desire()
			d.until("the key", func(d api.Desired) bool { return d.Gossip != nil && string(d.Gossip.Keys[0]) == string(key) })
			if !c.lies(key) {
				t.Error("it is sealed, and the older master cannot read it")
			}
			c.ann().must("DELETE", "/v1/masters/m9", nil, http.StatusOK)
			c.until("the key to be sealed", func() bool { return !c.lies(key) })
			if m := c.mesh(); m.Seq != 1 || m.Step != api.MeshSteady {
				t.Errorf("the mesh is at %+v", m)
			}
			if other := c.join("h2", "10.0.0.2"); other.name != "h2" {
				t.Errorf("another host joined as %s", other.name)
			}
		})
	}
}

// TestARingOfAnotherKeyDoesNotOpen: it is an error that says so, and the master goes on without it.
func TestARingOfAnotherKeyDoesNotOpen(t *testing.T) {
	s := memory.New()
	value := newRing(pki.NewGossipKey(), time.Now()).store(seal.NewKey())
	if _, err := s.Txn(t.Context(), store.Op{Key: gossipKey, Value: value, If: store.Any}); err != nil {
		t.Fatal(err)
	}
	c := startOver(t, s)
	if c.m.cache.gossipKeys() != nil {
		t.Error("hosts are told keys")
	}
	if _, err := c.m.gossipNow(t.Context()); err == nil || !strings.Contains(err.Error(), "does not open") {
		t.Errorf("reading it gives %v", err)
	}
}
