package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/lab"
	"gearmesh.dev/contrib/story"
)

// ledger is what the master has acknowledged of services: those that are to be there, and those that were deleted
// (false). Of a service whose last request gave an error nothing is known.
type ledger map[string]bool

// note notes the answer to a request that is to make or to delete a service.
func (l ledger) note(name string, there bool, err error) {
	if err != nil {
		delete(l, name)
		return
	}
	l[name] = there
}

// Apply notes which service was acknowledged.
func (r *rig) Apply(ctx context.Context, manifest string, flags ...string) (string, error) {
	out, err := r.World.Apply(ctx, manifest, flags...)
	_, rest, _ := strings.Cut(manifest, "metadata: {name: ")
	name, _, _ := strings.Cut(rest, ",")
	r.acked.note(name, true, err)
	return out, err
}

// Gear notes which deletion was acknowledged.
func (r *rig) Gear(ctx context.Context, args ...string) (string, error) {
	out, err := r.World.Gear(ctx, args...)
	if len(args) > 2 && args[0] == "delete" && args[1] == "service" {
		r.acked.note(args[2], false, err)
	}
	return out, err
}

// storeFile is what etcd keeps its keys in.
const storeFile = "/var/lib/gear/master/etcd/member/snap/db"

// storeAgrees tells whether the master's store, as it is on disk, has what was acknowledged and no more, and whether the hosts
// have the pods that it assigns to them.
func (r *rig) storeAgrees(ctx context.Context, v view) error {
	keys := map[string][]byte{}
	if err := r.eachChange(ctx, living(keys)); err != nil {
		return err
	}
	return agree(keys, r.acked, v)
}

// eachChange calls see for each change in the store of h1's master, as it is on disk, that is not compacted. The master is stopped
// for the moment of the copy.
func (r *rig) eachChange(ctx context.Context, see func(change)) error {
	dir, err := os.MkdirTemp("", "gear-faults")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what stays is a file in /tmp
	var db, errs bytes.Buffer
	script := `systemctl kill -s STOP gear-master.service; cat ` + storeFile + `; s=$?; systemctl kill -s CONT gear-master.service; exit $s`
	if code, err := r.Lab.Exec(ctx, "h1", []string{"sh", "-c", script}, lab.Streams{Out: &db, Err: &errs}); err != nil || code != 0 {
		return fmt.Errorf("copying the store: exit status %d: %s%w", code, errs.String(), err)
	}
	file := filepath.Join(dir, "db")
	if err := os.WriteFile(file, db.Bytes(), 0o600); err != nil {
		return err
	}
	return readStore(file, see)
}

// agree compares the store's keys with the ledger and with what is on the hosts.
func agree(keys map[string][]byte, l ledger, v view) error {
	var errs []error
	for name, want := range l {
		if _, have := keys["service/"+story.Project+"/"+name]; have != want {
			errs = append(errs, fmt.Errorf("the store has service %s: %t, and what was acknowledged is %t", name, have, want))
		}
	}
	assigned := map[string][]string{}
	for key, value := range keys {
		if !strings.HasPrefix(key, "pod/") {
			continue
		}
		var p api.Pod
		if err := json.Unmarshal(value, &p); err != nil {
			return fmt.Errorf("reading %s from the store: %w", key, err)
		}
		if _, known := l[string(p.Spec.Service)]; !known && len(l) > 0 {
			errs = append(errs, fmt.Errorf("the store has %s, of a service that nobody has applied", path.Base(key)))
		}
		assigned[string(p.Spec.Host)] = append(assigned[string(p.Spec.Host)], string(p.Metadata.UID))
	}
	for h, s := range v {
		if slices.Sort(assigned[h]); !slices.Equal(assigned[h], s.directories) {
			errs = append(errs, fmt.Errorf("the store assigns to %s the pods %q, and it has %q", h, assigned[h], s.directories))
		}
	}
	return errors.Join(errs...)
}

// change is one of a key, without the prefix of Gearmesh. The value of a deleted key is nil.
type change struct {
	key     string
	value   []byte
	deleted bool
}

// living gives what keeps the keys that are there at the end, and their values.
func living(keys map[string][]byte) func(change) {
	return func(c change) {
		if delete(keys, c.key); !c.deleted {
			keys[c.key] = c.value
		}
	}
}

// readStore calls see for each change in a copy of etcd's database, in their order. In the bucket "key" each revision has the
// key it was of: 8 bytes, "_", 8 bytes, and "t" when it was a deletion (etcd's mvcc/revision.go).
func readStore(file string, see func(change)) error {
	db, err := bbolt.Open(file, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("opening the copy of the store: %w", err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("key"))
		if b == nil {
			return errors.New("the copy of the store has no keys")
		}
		return b.ForEach(func(revision, value []byte) error { // in the order of the revisions
			key, text, err := readKeyValue(value)
			if err != nil {
				return fmt.Errorf("reading revision %d of the store: %w", binary.BigEndian.Uint64(revision), err)
			}
			see(change{key: strings.TrimPrefix(key, "/gearmesh/"), value: text, deleted: len(revision) != 17})
			return nil
		})
	})
	return errors.Join(err, db.Close())
}

// readKeyValue reads the fields 1 (key) and 5 (value) of etcd's message KeyValue (etcd's kv.proto).
func readKeyValue(b []byte) (key string, value []byte, err error) {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return "", nil, protowire.ParseError(n)
		}
		b = b[n:]
		size := protowire.ConsumeFieldValue(field, kind, b)
		if size < 0 {
			return "", nil, protowire.ParseError(size)
		}
		switch text, _ := protowire.ConsumeBytes(b[:size]); field {
		case 1:
			key = string(text)
		case 5:
			value = slices.Clone(text)
		}
		b = b[size:]
	}
	return key, value, nil
}
