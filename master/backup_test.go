package master

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/backup"
	"gearmesh.dev/internal/pki"
	"gearmesh.dev/master/store"
	"gearmesh.dev/master/store/memory"
)

// TestABackupMakesTheClusterAnew: what was stored is there again, hosts are still known, and the terms are above
// all that hosts can have seen.
func TestABackupMakesTheClusterAnew(t *testing.T) {
	first := startOver(t, memory.New())
	first.m.cfg.Kit = func() (api.MasterKit, error) { return api.MasterKit{CAKey: "the key"}, nil }
	ann := first.ann()
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	h1 := first.join("h1", "192.0.2.1")
	h1.must("PUT", "/v1/hosts/h1/report", h1.report(), http.StatusOK)
	identity, recipient, err := backup.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	ann.must("POST", "/v1/tokens", nil, http.StatusCreated) // on its way, and not to be restored
	ann.must("POST", "/v1/backup", api.BackupRequest{Recipient: "age1wrong"}, http.StatusUnprocessableEntity)
	sealed := ann.must("POST", "/v1/backup", api.BackupRequest{Recipient: recipient}, http.StatusOK).body

	restored := memory.New()
	from := opened(t, sealed, identity)
	if from.Header.Kit.CAKey != "the key" || from.Header.Kit.Domain != "gear.internal" {
		t.Errorf("header: %+v", from.Header)
	}
	if n, err := Restore(t.Context(), restored, from); err != nil || n == 0 {
		t.Fatalf("%d keys, %v", n, err)
	}
	second := startNamed(t, restored, first.ca, first.key, "m1", pki.NewSecret(), nil)
	second.until("a leader", func() bool { return second.m.term() != 0 })
	if second.m.term() <= restoredTerms {
		t.Errorf("its term is %d", second.m.term())
	}
	second.ann().must("GET", "/v1/projects/shop", nil, http.StatusOK)
	there := &user{c: second, http: h1.http}
	there.must("PUT", "/v1/hosts/h1/report", h1.report(), http.StatusOK) // its certificate is still good
	if strings.Contains(second.stored(), "token/") {
		t.Error("join tokens were restored")
	}
	if _, err := Restore(t.Context(), restored, opened(t, sealed, identity)); err == nil {
		t.Error("a store that is not empty is filled")
	}
}

func opened(t *testing.T, sealed []byte, identity string) *backup.Reader {
	t.Helper()
	plain, err := backup.Open(bytes.NewReader(sealed), strings.NewReader(identity))
	if err != nil {
		t.Fatal(err)
	}
	from, err := backup.NewReader(plain)
	if err != nil {
		t.Fatal(err)
	}
	return from
}

// TestTermsGrowOverRestores: a second restore begins above the first.
func TestTermsGrowOverRestores(t *testing.T) {
	s := memory.New()
	if _, err := s.Txn(t.Context(), store.Op{Key: termBaseKey, Value: mustJSON(int64(5) << 40), If: store.Absent}); err != nil {
		t.Fatal(err)
	}
	items, rev, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := writeBackup(&out, backup.Header{Revision: rev}, items); err != nil {
		t.Fatal(err)
	}
	from, err := backup.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	again := memory.New()
	if _, err := Restore(t.Context(), again, from); err != nil {
		t.Fatal(err)
	}
	if it, err := again.Get(t.Context(), termBaseKey); err != nil || !strings.HasPrefix(string(it.Value), "65970697666") {
		t.Errorf("the base is %s, %v; want about 6<<40", it.Value, err)
	}
}
