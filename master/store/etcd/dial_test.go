package etcd_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"testing"

	"go.etcd.io/etcd/server/v3/embed"

	"gearmesh.dev/master/store"
	"gearmesh.dev/master/store/etcd"
	"gearmesh.dev/master/store/storetest"
)

// TestContractOfAnOutsideCluster runs the contract over the network, each test under its own prefix.
func TestContractOfAnOutsideCluster(t *testing.T) {
	addr, _ := outside(t)
	n := 0
	storetest.Run(t, func(t *testing.T) store.Store {
		n++
		return dial(t, addr, fmt.Sprintf("/cluster%d/", n))
	})
}

func TestAnEtcdThatIsGoneIsUnavailable(t *testing.T) {
	addr, stop := outside(t)
	s := dial(t, addr, "")
	if _, err := s.Txn(t.Context(), store.Op{Key: "a", If: store.Absent}); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := s.Txn(t.Context(), store.Op{Key: "b", If: store.Absent}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("writing gives %v", err)
	}
	if _, err := s.Get(t.Context(), "a"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("reading gives %v", err)
	}
}

func dial(t *testing.T, addr, prefix string) *etcd.Store {
	t.Helper()
	s, err := etcd.Dial(t.Context(), etcd.Cluster{Endpoints: []string{addr}, Prefix: prefix}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// outside runs an etcd that listens on loopback, as a cluster of one's own does.
func outside(t *testing.T) (addr string, stop func()) {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir, cfg.LogLevel = t.TempDir(), "fatal"
	cfg.ListenPeerUrls = nil
	cfg.ListenClientUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(server.Close)
	t.Cleanup(stop)
	<-server.Server.ReadyNotify()
	return server.Clients[0].Addr().String(), stop
}
