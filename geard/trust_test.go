package geard_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/api"
)

// What was withdrawn stays so over a restart without a master, until the master takes it back.
func TestWithdrawnCertificates(t *testing.T) {
	r := newRig(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r.master.patches <- api.Patch{Full: true, Term: 1, Revoked: []api.RevokedEntry{{Host: "h9", Issued: at}}}
	r.until("the withdrawal", func() bool { return r.agent.Refuses("h9", at) })
	r.stop()
	r.start()
	if !r.agent.Refuses("h9", at.Add(-time.Hour)) || r.agent.Refuses("h9", at.Add(time.Second)) || r.agent.Refuses("h8", at) {
		t.Error("after a restart other certificates are refused than before")
	}
	r.master.patches <- api.Patch{Term: 1, Revision: 2, Removed: []string{"revoked/h9"}}
	r.until("the end of the withdrawal", func() bool { return !r.agent.Refuses("h9", at) })
}

// The keys of the mesh are set before they are reported, are not on disk with the desired state, and are not reported when they could not
// be kept.
func TestGossipKeys(t *testing.T) {
	r := newRig(t)
	keys := [][]byte{[]byte("0123456789abcdef0123456789abcdef")}
	r.master.patches <- api.Patch{Full: true, Term: 1, Gossip: &api.GossipKeys{Seq: 3, Keys: keys}}
	r.until("the report", func() bool { return r.agent.Report().Gossip == 3 })
	if len(r.mesh.keys) != 1 || string(r.mesh.keys[0]) != string(keys[0]) {
		t.Errorf("the mesh has %d keys", len(r.mesh.keys))
	}
	if text, err := os.ReadFile(r.dirs.Desired()); err != nil || strings.Contains(string(text), "gossip") {
		t.Errorf("the desired state on disk is %s, %v", text, err)
	}
	r.mesh.mu.Lock()
	r.mesh.keep = errors.New("the disk is full")
	r.mesh.mu.Unlock()
	r.master.patches <- api.Patch{Term: 1, Revision: 2, Gossip: &api.GossipKeys{Seq: 4, Keys: keys}}
	r.until("the condition", func() bool {
		return slices.ContainsFunc(r.agent.Report().Conditions, func(c api.Condition) bool { return c.Reason == "GossipKeysRefused" })
	})
	if got := r.agent.Report().Gossip; got != 3 {
		t.Errorf("keys %d are reported, which could not be kept", got)
	}
}
