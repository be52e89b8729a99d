// Package etcd keeps the master's state in etcd: in one that runs inside this process (Start) or
// in an outside cluster (Dial). No other package imports etcd.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
)

// prefix keeps our keys apart from anything else in an outside cluster.
const prefix = "/gearmesh/"

const (
	// quota is when etcd refuses writes rather than fill the disk: 2 GiB.
	quota = 2 << 30
	// snapshotCount is after how many writes etcd drops its log from memory. Its default of
	// 10,000 entries costs tens of MiB, which the master does not have.
	snapshotCount = 1000
	// keptRevisions is how far back a watch can start after a master restart.
	keptRevisions = "10000"
)

// Start runs etcd in this process with its data in dir (made when missing, mode 0700). It has no
// listener: nothing but this process reaches it.
func Start(ctx context.Context, dir string, logger *slog.Logger) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the store's folder: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil { // one that was there may be open to others
		return nil, fmt.Errorf("closing the store's folder to others: %w", err)
	}
	server, err := embed.StartEtcd(embeddedConfig(dir, logger))
	if err != nil {
		return nil, fmt.Errorf("starting etcd in %q: %w", dir, err)
	}
	select {
	case <-server.Server.ReadyNotify():
	case err := <-server.Err():
		server.Close()
		return nil, fmt.Errorf("starting etcd in %q: %w", dir, err)
	case <-ctx.Done():
		server.Close()
		return nil, fmt.Errorf("starting etcd in %q: %w", dir, ctx.Err())
	}
	client := v3client.New(server.Server)
	s := newStore(client, prefix, func() error {
		err := client.Close()
		server.Close()
		return ignoreCancelled(err)
	})
	// Nobody but this process can have led: a leader that was killed need not be waited for.
	if _, err := s.client.Delete(ctx, leaderPrefix+"/", clientv3.WithPrefix()); err != nil {
		return nil, errors.Join(fmt.Errorf("forgetting the last leader: %w", err), s.Close())
	}
	return s, nil
}

func embeddedConfig(dir string, logger *slog.Logger) *embed.Config {
	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.Name = "master"
	// The peer URL names the member; with no listeners nothing is ever served there.
	self := url.URL{Scheme: "http", Host: "127.0.0.1:2380"}
	cfg.ListenPeerUrls, cfg.ListenClientUrls = nil, nil
	cfg.AdvertisePeerUrls, cfg.AdvertiseClientUrls = []url.URL{self}, []url.URL{self}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.EnableGRPCGateway = false
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModeRevision, keptRevisions
	cfg.QuotaBackendBytes = quota
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = snapshotCount, snapshotCount
	cfg.MaxSnapFiles, cfg.MaxWalFiles = 2, 2
	cfg.BackendBatchLimit, cfg.BackendBatchInterval = 1000, 50*time.Millisecond
	cfg.MaxTxnOps = 1024
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(slogCore{logger}))
	return cfg
}

// ignoreCancelled drops the error of a client that was closed while it watched.
func ignoreCancelled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
