package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/namespace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gearmesh.dev/master/store"
)

const (
	// requestTimeout bounds each call: without a quorum etcd would wait for ever, and callers are
	// promised an answer within 2 s.
	requestTimeout = 1800 * time.Millisecond
	// leaseSeconds is how long a leader that died keeps others from leading; up to two more when it led the store too, which
	// elects another first and then gives every lease its time anew. With them and the time between two reports of a host it
	// must be less than api.SingletonLease, or a change of the leader would end singletons.
	leaseSeconds = 4
	leaderPrefix = "leader"
)

// Store keeps the master's state in etcd. Use Start or Dial, and Close it.
type Store struct {
	client *clientv3.Client
	// watcher knows nothing of the prefix. That of the client cuts the prefix off the events themselves, which all watchers
	// in the process of an embedded etcd share.
	watcher clientv3.Watcher
	prefix  string
	// patience is how long a call may take.
	patience time.Duration
	close    func() error
}

var _ store.Store = (*Store)(nil)

// newStore puts a client under a key prefix, so that one etcd can serve several clusters.
func newStore(c *clientv3.Client, prefix string, closeAll func() error) *Store {
	s := &Store{client: c, watcher: c.Watcher, prefix: prefix, patience: requestTimeout, close: sync.OnceValue(closeAll)}
	c.KV = namespace.NewKV(c.KV, prefix)
	c.Watcher = namespace.NewWatcher(c.Watcher, prefix)
	c.Lease = namespace.NewLease(c.Lease, prefix)
	return s
}

// Close ends every watch and, for an embedded etcd, the server. It may be called twice.
func (s *Store) Close() error { return s.close() }

// Get implements store.Store. It is linearizable: it sees every write that was answered.
func (s *Store) Get(ctx context.Context, key string) (store.Item, error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	resp, err := s.client.Get(ctx, key)
	if err != nil {
		return store.Item{}, fmt.Errorf("reading %q from etcd: %w", key, known(err))
	}
	if len(resp.Kvs) == 0 {
		return store.Item{}, fmt.Errorf("%q: %w", key, store.ErrNotFound)
	}
	kv := resp.Kvs[0]
	return store.Item{Key: key, Value: kv.Value, Revision: kv.ModRevision}, nil
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix string) ([]store.Item, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*s.patience) // may be 150,000 pods
	defer cancel()
	resp, err := s.client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend))
	if err != nil {
		return nil, 0, fmt.Errorf("listing %q from etcd: %w", prefix, known(err))
	}
	items := make([]store.Item, len(resp.Kvs))
	for i, kv := range resp.Kvs {
		items[i] = store.Item{Key: string(kv.Key), Value: kv.Value, Revision: kv.ModRevision}
	}
	return items, resp.Header.Revision, nil
}

// Txn implements store.Store.
func (s *Store) Txn(ctx context.Context, ops ...store.Op) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	var conditions []clientv3.Cmp
	var steps []clientv3.Op
	for _, op := range ops {
		switch {
		case op.Kind == store.CheckAll:
			conditions = append(conditions, clientv3.Compare(clientv3.ModRevision(op.Key), "<", op.If+1).WithPrefix())
		case op.If != store.Any: // etcd gives 0 for a missing key, as store.Absent does
			conditions = append(conditions, clientv3.Compare(clientv3.ModRevision(op.Key), "=", op.If))
		}
		switch op.Kind {
		case store.Put:
			steps = append(steps, clientv3.OpPut(op.Key, string(op.Value)))
		case store.Delete:
			steps = append(steps, clientv3.OpDelete(op.Key))
		case store.DeleteAll:
			steps = append(steps, clientv3.OpDelete(op.Key, clientv3.WithPrefix()))
		case store.Check, store.CheckAll:
		}
	}
	resp, err := s.client.Txn(ctx).If(conditions...).Then(steps...).Commit()
	if err != nil {
		return 0, fmt.Errorf("writing %s to etcd: %w", keys(ops), known(err))
	}
	if !resp.Succeeded {
		return 0, fmt.Errorf("%s: %w", keys(ops), store.ErrConflict)
	}
	return resp.Header.Revision, nil
}

// known marks the errors that time may heal: no leader, no quorum, too many requests, no space; and too large a transaction.
func known(err error) error {
	code := status.Code(err)
	var typed rpctypes.EtcdError
	switch {
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("%w: %w: %w", store.ErrUnavailable, store.ErrFull, err)
	case errors.Is(err, rpctypes.ErrTooManyOps), errors.Is(err, rpctypes.ErrRequestTooLarge), tooLongFor(err):
		return fmt.Errorf("%w: %w", store.ErrTooLarge, err)
	case errors.Is(err, rpctypes.ErrCorrupt):
		return fmt.Errorf("%w: %w: %w", store.ErrUnavailable, store.ErrCorrupt, err)
	case errors.As(err, &typed):
		code = typed.Code()
	case errors.Is(err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	}
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted:
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return err
}

// tooLongFor tells whether gRPC has refused a message for its size, which has the code of a lack that time heals.
func tooLongFor(err error) bool {
	return status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "larger than max")
}

// keys names the keys of a transaction, for an error.
func keys(ops []store.Op) string {
	const most = 5
	var names []string
	for _, op := range ops[:min(len(ops), most)] {
		names = append(names, fmt.Sprintf("%q", op.Key))
	}
	if len(ops) > most {
		names = append(names, fmt.Sprintf("and %d more", len(ops)-most))
	}
	return strings.Join(names, ", ")
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, prefix string, after int64) <-chan store.Batch {
	out := make(chan store.Batch)
	ctx, cancel := context.WithCancel(ctx)
	from := s.watcher.Watch(clientv3.WithRequireLeader(ctx), s.prefix+prefix, clientv3.WithPrefix(), clientv3.WithRev(after+1))
	go func() {
		defer close(out)
		defer cancel()
		for resp := range from {
			b := s.batch(prefix, resp)
			select {
			case out <- b:
			case <-ctx.Done():
				return
			}
			if b.Err != nil {
				return
			}
		}
	}()
	return out
}

func (s *Store) batch(prefix string, resp clientv3.WatchResponse) store.Batch {
	if err := resp.Err(); err != nil {
		if errors.Is(err, rpctypes.ErrCompacted) || resp.CompactRevision != 0 {
			err = store.ErrCompacted
		}
		return store.Batch{Err: fmt.Errorf("watching %q: %w", prefix, err)}
	}
	b := store.Batch{Revision: resp.Header.Revision}
	for _, e := range resp.Events {
		item := store.Item{Key: strings.TrimPrefix(string(e.Kv.Key), s.prefix), Value: e.Kv.Value, Revision: e.Kv.ModRevision}
		b.Events = append(b.Events, store.Event{Item: item, Deleted: e.Type == clientv3.EventTypeDelete})
	}
	return b
}

// Leader implements store.Store.
func (s *Store) Leader(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	resp, err := s.client.Get(ctx, leaderPrefix+"/", clientv3.WithFirstCreate()...)
	if err != nil {
		return "", fmt.Errorf("asking etcd who leads: %w", known(err))
	}
	if len(resp.Kvs) == 0 {
		return "", nil
	}
	return string(resp.Kvs[0].Value), nil
}

// Campaign implements store.Store. The term is the revision at which the candidate's key was
// made: candidates lead in the order of their keys, so terms only grow.
func (s *Store) Campaign(ctx context.Context, id string) (store.Lead, error) {
	session, err := concurrency.NewSession(s.client, concurrency.WithTTL(leaseSeconds), concurrency.WithContext(ctx))
	if err != nil {
		return store.Lead{}, fmt.Errorf("opening a session to lead: %w", err)
	}
	// A candidate whose session has run out no longer stands, and must not wait as if it did.
	wait, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-session.Done():
			cancel()
		case <-wait.Done():
		}
	}()
	election := concurrency.NewElection(session, leaderPrefix)
	if err := election.Campaign(wait, id); err != nil {
		return store.Lead{}, errors.Join(fmt.Errorf("waiting to lead: %w", err), session.Close())
	}
	resign := sync.OnceFunc(func() {
		// Best effort: when etcd cannot be reached, the lease runs out by itself.
		_ = session.Close()
	})
	fence := store.Op{Kind: store.Check, Key: election.Key(), If: election.Rev()}
	return store.Lead{Term: election.Rev(), Fence: fence, Lost: session.Done(), Resign: resign}, nil
}
