package mesh

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/hashicorp/memberlist"
)

// maxKeys bounds the keys at a time: each datagram that fits none is tried with all of them.
const maxKeys = 4

// SetKeys makes these the gossip keys: the first one encrypts what is sent, all of them are accepted. They are on disk
// (Config.Keyring) before they are used, so that a host that is cut short has them or the earlier ones. Peers are tried anew at once:
// without the right key none could be reached. Setting the same keys again changes nothing, but for what somebody with an old key has
// made of them by serf's own queries.
func (n *Node) SetKeys(keys [][]byte) error {
	if err := checkKeys(keys); err != nil {
		return err
	}
	n.keysMu.Lock()
	defer n.keysMu.Unlock()
	if err := n.config.keepKeys(keys); err != nil {
		return err
	}
	news := !slices.EqualFunc(n.ring.GetKeys(), keys, slices.Equal)
	for _, k := range keys {
		if err := n.ring.AddKey(k); err != nil {
			return fmt.Errorf("mesh: adding a key: %w", err)
		}
	}
	if err := n.ring.UseKey(keys[0]); err != nil {
		return fmt.Errorf("mesh: using a key: %w", err)
	}
	// From the end: memberlist moves what stands behind, in a list that others may be reading.
	for _, old := range slices.Backward(slices.Clone(n.ring.GetKeys())) {
		if slices.ContainsFunc(keys, func(k []byte) bool { return slices.Equal(k, old) }) {
			continue
		}
		if err := n.ring.RemoveKey(old); err != nil {
			return fmt.Errorf("mesh: removing a key: %w", err)
		}
	}
	if news {
		kick(n.peers.news)
	}
	return nil
}

func checkKeys(keys [][]byte) error {
	if len(keys) == 0 || len(keys) > maxKeys {
		return fmt.Errorf("mesh: %d gossip keys are given; 1 to %d are possible", len(keys), maxKeys)
	}
	for i, k := range keys {
		if len(k) != KeyLen {
			return fmt.Errorf("mesh: gossip key %d has %d bytes; %d are needed", i+1, len(k), KeyLen)
		}
	}
	return nil
}

// keepKeys writes the keys down, unless they are there.
func (c Config) keepKeys(keys [][]byte) error {
	if c.Keyring == "" {
		return nil
	}
	if kept, err := readKeys(c.Keyring); err == nil && slices.EqualFunc(kept, keys, slices.Equal) {
		return nil
	}
	text, err := json.Marshal(keys)
	if err == nil {
		err = replace(c.Keyring, text)
	}
	if err != nil {
		return fmt.Errorf("mesh: keeping the gossip keys: %w", err)
	}
	return nil
}

// keyring gives the keys to begin with. A file that cannot be read is left alone and the host's own key is used: at worst this host
// is no member until the master tells it the keys.
func (c Config) keyring() (*memberlist.Keyring, error) {
	keys := [][]byte{c.Key}
	if c.Keyring != "" {
		switch read, err := readKeys(c.Keyring); {
		case err == nil:
			keys = read
		case !errors.Is(err, fs.ErrNotExist):
			c.Logger.Error("the gossip keys on disk cannot be read; the host's first one is used", "file", c.Keyring, "error", err)
		}
	}
	ring, err := memberlist.NewKeyring(keys, keys[0])
	if err != nil {
		return nil, fmt.Errorf("mesh: keyring: %w", err)
	}
	return ring, nil
}

func readKeys(path string) ([][]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("mesh: keyring: %w", err)
	}
	var keys [][]byte
	if err := json.Unmarshal(text, &keys); err != nil {
		return nil, fmt.Errorf("mesh: keyring %q: a JSON list of base64 keys is needed: %w", path, err)
	}
	return keys, checkKeys(keys)
}
