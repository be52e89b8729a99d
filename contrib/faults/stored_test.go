package main

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"
)

// etcdFile writes a database as etcd does: each line is a revision, "KEY VALUE" or "KEY" for a deletion.
func etcdFile(t *testing.T, lines ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "db")
	db, err := bbolt.Open(file, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("key"))
		for i, line := range lines {
			key, value, there := strings.Cut(line, " ")
			revision := append(binary.BigEndian.AppendUint64(nil, uint64(i+2)), '_')
			if revision = binary.BigEndian.AppendUint64(revision, 0); !there {
				revision = append(revision, 't')
			}
			text := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte("/gearmesh/"+key))
			text = protowire.AppendVarint(protowire.AppendTag(text, 3, protowire.VarintType), uint64(i+2))
			if there {
				text = protowire.AppendBytes(protowire.AppendTag(text, 5, protowire.BytesType), []byte(value))
			}
			if err == nil {
				err = b.Put(revision, text)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return file
}

func podText(service, uid, host string) string {
	return fmt.Sprintf(`{"metadata":{"uid":%q},"spec":{"service":%q,"host":%q}}`, uid, service, host)
}

func TestTheStoreIsRead(t *testing.T) {
	keys := map[string][]byte{}
	err := readStore(etcdFile(t, "service/guestbook/web 1", "service/guestbook/db 2", "service/guestbook/web", "service/guestbook/db 3"), living(keys))
	if err != nil || len(keys) != 1 || string(keys["service/guestbook/db"]) != "3" {
		t.Errorf("it has %q, %v", keys, err)
	}
	if err := readStore(etcdFile(t), living(keys)); err != nil {
		t.Errorf("an empty store: %v", err)
	}
	for _, bad := range []string{"\x0a", "\x0a\x05web", "\xff\xff"} {
		if _, _, err := readKeyValue([]byte(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func TestWhatTheStoreLostIsSeen(t *testing.T) {
	on := view{"h1": {directories: []string{"aaaaaaaaaaaaaaaa"}}, "h2": {}}
	right := map[string][]byte{"service/guestbook/web": nil, "pod/guestbook/web-a": []byte(podText("web", "aaaaaaaaaaaaaaaa", "h1"))}
	l := ledger{"web": true, "victim": false}
	if err := agree(right, l, on); err != nil {
		t.Error(err)
	}
	with := func(key, text string) map[string][]byte {
		m := map[string][]byte{key: []byte(text)}
		for k, v := range right {
			if k != key {
				m[k] = v
			}
		}
		return m
	}
	without := with("x", "")
	delete(without, "service/guestbook/web")
	for what, keys := range map[string]map[string][]byte{
		"a lost write":               without,
		"a lost deletion":            with("service/guestbook/victim", ""),
		"a pod that is on no host":   with("pod/guestbook/web-b", podText("web", "bbbbbbbbbbbbbbbb", "h2")),
		"a pod that is elsewhere":    with("pod/guestbook/web-a", podText("web", "aaaaaaaaaaaaaaaa", "h2")),
		"a pod of nobody's service":  with("pod/guestbook/web-a", podText("other", "aaaaaaaaaaaaaaaa", "h1")),
		"a pod that is no resource":  with("pod/guestbook/web-a", "nonsense"),
		"a pod that no store has of": {"service/guestbook/web": nil},
	} {
		if agree(keys, l, on) == nil {
			t.Errorf("%s: not seen", what)
		}
	}
}

func TestTheLedgerKnowsAnswersAlone(t *testing.T) {
	l := ledger{"web": true}
	l.note("db", true, nil)
	l.note("old", false, nil)
	l.note("web", false, fmt.Errorf("no answer"))
	if _, known := l["web"]; known || !l["db"] || l["old"] || len(l) != 2 {
		t.Errorf("the ledger is %v", l)
	}
}
