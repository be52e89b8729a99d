package etcd_test

import (
	"log/slog"
	"net"
	"os"
	"testing"

	"gearmesh.dev/master/store"
	"gearmesh.dev/master/store/etcd"
	"gearmesh.dev/master/store/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return start(t, t.TempDir()) })
}

func TestTakesAll(t *testing.T) { storetest.TakesAll(t, start(t, t.TempDir())) }

func TestDataOutlivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	first := start(t, dir)
	lead, err := first.Campaign(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Txn(t.Context(), store.Op{Key: "a", Value: []byte("1"), If: store.Absent}); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := start(t, dir)
	if it, err := second.Get(t.Context(), "a"); err != nil || string(it.Value) != "1" {
		t.Errorf("got %q, %v", it.Value, err)
	}
	next, err := second.Campaign(t.Context(), "one again")
	if err != nil || next.Term <= lead.Term {
		t.Errorf("term %d after %d, %v", next.Term, lead.Term, err)
	}
}

func TestNothingListens(t *testing.T) {
	start(t, t.TempDir())
	conn, err := net.Dial("tcp", "127.0.0.1:2380")
	if err == nil {
		conn.Close()
		t.Error("etcd listens on 2380")
	}
}

func start(t *testing.T, dir string) *etcd.Embedded {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(testWriter{t}, nil))
	s, err := etcd.Start(t.Context(), etcd.Config{Dir: dir}, logger)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	s.Patient()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("others can read %s: %v, %v", dir, info.Mode(), err)
	}
	return s
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil { // etcd logs on while it closes
		w.t.Logf("%s", p)
	}
	return len(p), nil
}
