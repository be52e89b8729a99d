package mesh

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func oldKey() []byte { return []byte(strings.Repeat("k", KeyLen)) } // of cluster.config
func newKey() []byte { return []byte(strings.Repeat("n", KeyLen)) }

func (c *cluster) setKeys(nodes []*Node, keys ...[]byte) {
	c.t.Helper()
	for _, n := range nodes {
		if err := n.SetKeys(keys); err != nil {
			c.t.Fatal(err)
		}
	}
}

// TestRotation changes the key of a mesh in the master's steps while one host is off. Nobody is lost meanwhile; the host comes back
// with the old key, is no member, gets the new one, and is.
func TestRotation(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	cfg := c.config(3)
	cfg.Keyring = filepath.Join(t.TempDir(), "keys")
	a, b := c.start(c.config(1), 2, 3), c.start(c.config(2), 1, 3)
	off := c.start(cfg, 1, 2)
	up := []*Node{a, b}
	for _, n := range append(up, off) {
		c.await(n, "all are members", func() bool { return count(n, Alive) == 3 })
	}
	off.stop()
	for _, n := range up {
		c.await(n, "h3 is down", func() bool { return n.Down("h3") })
	}
	hinted := int64(0)
	for _, keys := range [][][]byte{{oldKey(), newKey()}, {newKey(), oldKey()}, {newKey()}} {
		for _, n := range up { // one after another: between two of them the mesh is mixed
			c.setKeys([]*Node{n}, keys...)
			hinted++
			a.HintEndpoints("h1", hinted)
			c.await(b, "a hint", func() bool { return b.Hints()["h1"].Seq >= hinted })
			if a.Down("h2") || b.Down("h1") {
				t.Fatal("a living host is lost while the key changes")
			}
		}
	}
	back := c.start(cfg, 1, 2)
	for range 5 {
		back.tryJoin(t.Context())
	}
	if count(back, Alive) != 1 || !a.Down("h3") {
		t.Fatalf("with the old key: it sees %+v, and is seen as %s", back.Members(), state(a, "h3"))
	}
	c.setKeys([]*Node{back}, newKey())
	for _, n := range append(up, back) {
		c.await(n, "all are members again", func() bool { return count(n, Alive) == 3 && !n.Down("h3") })
	}
	back.stop()
	again := c.start(cfg, 1) // the new key is on its disk
	c.await(again, "members after a restart", func() bool { return count(again, Alive) == 3 })
}

func TestSetKeysKeepsThem(t *testing.T) {
	c := newCluster(t)
	cfg := c.config(1)
	cfg.Keyring = filepath.Join(t.TempDir(), "keys")
	n := c.start(cfg)
	c.setKeys([]*Node{n}, newKey(), oldKey())
	info, err := os.Stat(cfg.Keyring)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the keys are kept as %v, %v", info, err)
	}
	c.setKeys([]*Node{n}, newKey(), oldKey())
	if same, err := os.Stat(cfg.Keyring); err != nil || !same.ModTime().Equal(info.ModTime()) {
		t.Errorf("the same keys are written again: %v, %v", same, err)
	}
	for name, bad := range map[string][][]byte{"none": nil, "short": {newKey(), []byte("x")}, "many": {newKey(), newKey(), newKey(), newKey(), newKey()}} {
		if err := n.SetKeys(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if keys, err := readKeys(cfg.Keyring); err != nil || len(keys) != 2 || string(keys[0]) != string(newKey()) || len(n.ring.GetKeys()) != 2 {
		t.Errorf("kept are %d keys, %v; used are %d", len(keys), err, len(n.ring.GetKeys()))
	}
}

// A host whose file is damaged starts all the same.
func TestDamagedKeyring(t *testing.T) {
	for _, text := range []string{"", "{", "[]", `["AAAA"]`, "null"} {
		c := newCluster(t)
		cfg := c.config(1)
		cfg.Keyring = keyringFile(t, text)
		n := c.start(cfg)
		if got := n.ring.GetKeys(); len(got) != 1 || string(got[0]) != string(oldKey()) {
			t.Errorf("%q: %d keys", text, len(got))
		}
	}
}
