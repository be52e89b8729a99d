// Package etcd keeps the master's state in etcd: in one that runs inside this process (Start),
// alone or as one of 3 or 5 members, or in an outside cluster (Dial). No other package imports etcd.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/features"
	"go.uber.org/zap"

	"gearmesh.dev/master/store"
)

// prefix keeps our keys apart from anything else in an outside cluster.
const prefix = "/gearmesh/"

// PeerPort is the TCP port on which the members of an embedded store reach each other.
const PeerPort = 2380

const (
	// DefaultQuota is when etcd refuses writes rather than fill the disk: 2 GiB.
	DefaultQuota = 2 << 30
	// snapshotCount is after how many writes etcd drops its log from memory. Its default of
	// 10,000 entries costs tens of MiB, which the master does not have.
	snapshotCount = 1000
	// keptRevisions is how far back a watch can start after a master restart.
	keptRevisions = "10000"
	// corruptCheck is how often the leader compares what the members hold.
	corruptCheck = time.Hour
)

// Config is that of an embedded store. Only Dir must be set; without Peers it is always alone.
type Config struct {
	Dir     string     // of the data; made when missing, mode 0700
	Name    string     // of the member; "master" when empty
	Address netip.Addr // where other members reach this one; needed to admit or to join others
	Peers   *Peers     // how members know each other
	Seat    string     // from Admit of another member: start as a new member of its cluster, when Dir is empty
	Quota   int64      // bytes; DefaultQuota when 0

	// PeerListen and PeerPort are for tests: where to listen for members, and on which port they
	// think that this one does.
	PeerListen string
	PeerPort   uint16
}

// Embedded is an etcd in this process.
type Embedded struct {
	*Store
	cfg    Config
	log    *slog.Logger
	server *embed.Etcd
	peers  *peerServer
	voter  chan struct{} // closed when this member has a vote
	work   sync.WaitGroup
	stop   context.CancelFunc
}

var (
	_ store.Cluster = (*Embedded)(nil)
	_ store.Checker = (*Embedded)(nil)
)

// Start runs etcd in this process. One that is alone has no listener: nothing but this process reaches it.
func Start(ctx context.Context, cfg Config, logger *slog.Logger) (*Embedded, error) {
	if cfg.Name == "" {
		cfg.Name = "master"
	}
	if cfg.PeerPort == 0 {
		cfg.PeerPort = PeerPort
	}
	if cfg.Quota == 0 {
		cfg.Quota = DefaultQuota
	}
	e := &Embedded{cfg: cfg, log: logger, voter: make(chan struct{})}
	if err := e.open(); err != nil {
		return nil, err
	}
	if err := e.await(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("starting etcd in %q: %w", cfg.Dir, err), e.Close())
	}
	background, stop := context.WithCancel(context.Background())
	e.stop = stop
	e.work.Go(func() { e.becomeVoter(background) })
	e.work.Go(func() { e.relieve(background) })
	if err := e.forgetLeader(ctx); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// open starts the server, and listens for its peers when it has any.
func (e *Embedded) open() error {
	if err := os.MkdirAll(e.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("making the store's folder: %w", err)
	}
	if err := os.Chmod(e.cfg.Dir, 0o700); err != nil { // one that was there may be open to others
		return fmt.Errorf("closing the store's folder to others: %w", err)
	}
	if e.cfg.Peers != nil {
		if err := e.cfg.Peers.refresh(); err != nil {
			return err
		}
	}
	server, err := embed.StartEtcd(e.embedded())
	if err != nil {
		return fmt.Errorf("starting etcd in %q: %w", e.cfg.Dir, err)
	}
	e.server = server
	client := v3client.New(server.Server)
	e.Store = newStore(client, prefix, func() error { return e.shut(client) })
	// The others must reach this one before it is ready: after a power cut none is, alone.
	if at := e.ownPeer(); at != "" {
		if err := e.listen(at); err != nil {
			return errors.Join(err, e.Close())
		}
	}
	return nil
}

func (e *Embedded) shut(client *clientv3.Client) error {
	if e.stop != nil {
		e.stop()
	}
	err := client.Close()
	e.work.Wait()
	if e.peers != nil {
		e.peers.close()
	}
	e.server.Close()
	return ignoreCancelled(err)
}

// await waits until the server has joined its cluster, and all that was written is applied.
func (e *Embedded) await(ctx context.Context) error {
	slow := time.NewTimer(10 * time.Second)
	defer slow.Stop()
	for {
		select {
		case <-e.server.Server.ReadyNotify():
			return nil
		case <-slow.C:
			e.log.Warn("the store waits for a quorum of its members: the other masters must run and be reachable on port " + strconv.Itoa(int(e.cfg.PeerPort)))
		case <-e.server.Server.StopNotify():
			return errRemoved
		case err := <-e.server.Err():
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// errRemoved is why a member ends by itself.
var errRemoved = errors.New("this master has been removed from the cluster; to bring it back, run on this host: gear join MASTER TOKEN --master")

// Ended is closed when the store ends by itself: this member was removed. Err then says so.
func (e *Embedded) Ended() <-chan struct{} { return e.server.Server.StopNotify() }

// Err gives why the store ended by itself.
func (e *Embedded) Err() error { return errRemoved }

// forgetLeader removes the record of a leader that was this process in an earlier life: it need not
// be waited for.
func (e *Embedded) forgetLeader(ctx context.Context) error {
	alone := len(e.server.Server.Cluster().Members()) == 1
	resp, err := e.client.Get(ctx, leaderPrefix+"/", clientv3.WithPrefix())
	if err != nil {
		return fmt.Errorf("forgetting the last leader: %w", err)
	}
	for _, kv := range resp.Kvs {
		if !alone && string(kv.Value) != e.cfg.Name {
			continue
		}
		if _, err := e.client.Delete(ctx, string(kv.Key)); err != nil {
			return fmt.Errorf("forgetting the last leader: %w", err)
		}
	}
	return nil
}

// Campaign implements store.Store. A member without a vote does not stand.
func (e *Embedded) Campaign(ctx context.Context, id string) (store.Lead, error) {
	select {
	case <-e.voter:
		return e.Store.Campaign(ctx, id)
	case <-ctx.Done():
		return store.Lead{}, ctx.Err()
	}
}

// embedded gives etcd's own configuration.
func (e *Embedded) embedded() *embed.Config {
	cfg := embed.NewConfig()
	cfg.Dir, cfg.Name = e.cfg.Dir, e.cfg.Name
	// The peer URL names the member. One that is alone serves nothing there.
	self := url.URL{Scheme: "http", Host: "127.0.0.1:2380"}
	if e.cfg.Seat != "" {
		self = e.peerURL(e.cfg.Address)
	}
	cfg.ListenPeerUrls, cfg.ListenClientUrls = nil, nil
	cfg.AdvertisePeerUrls, cfg.AdvertiseClientUrls = []url.URL{self}, []url.URL{self}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	if e.cfg.Seat != "" {
		cfg.InitialCluster, cfg.ClusterState = e.cfg.Seat, embed.ClusterStateFlagExisting
	}
	if e.cfg.Peers != nil {
		cfg.PeerTLSInfo = e.cfg.Peers.info()
	}
	cfg.EnableGRPCGateway = false
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModeRevision, keptRevisions
	cfg.QuotaBackendBytes = e.cfg.Quota
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = snapshotCount, snapshotCount
	cfg.MaxSnapFiles, cfg.MaxWalFiles = 2, 2
	cfg.BackendBatchLimit, cfg.BackendBatchInterval = 1000, 50*time.Millisecond
	cfg.MaxTxnOps, cfg.MaxRequestBytes = store.MaxOps, store.MaxBytes
	cfg.CorruptCheckTime = corruptCheck
	_ = cfg.ServerFeatureGate.(interface{ Set(string) error }).Set(string(features.InitialCorruptCheck) + "=true," + string(features.CompactHashCheck) + "=true")
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(slogCore{e.log}))
	return cfg
}

func (e *Embedded) peerURL(a netip.Addr) url.URL {
	return url.URL{Scheme: "https", Host: net.JoinHostPort(a.String(), strconv.Itoa(int(e.cfg.PeerPort)))}
}

// ignoreCancelled drops the error of a client that was closed while it watched.
func ignoreCancelled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
