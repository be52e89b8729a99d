package etcd

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"gearmesh.dev/internal/loop"
	"gearmesh.dev/master/store"
)

// The reasons of problems.
const (
	reasonFull    = "StoreFull"
	reasonCorrupt = "StoreCorrupt"
)

// Problems implements store.Checker: the alarms that etcd has raised.
func (s *Store) Problems(ctx context.Context) ([]store.Problem, error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	resp, err := s.client.AlarmList(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking etcd for its alarms: %w", known(err))
	}
	var out []store.Problem
	for _, a := range resp.Alarms {
		if p := problemOf(a); p.Reason != "" {
			out = append(out, p)
		}
	}
	return out, nil
}

func problemOf(a *etcdserverpb.AlarmMember) store.Problem {
	switch a.Alarm {
	case etcdserverpb.AlarmType_NOSPACE:
		return store.Problem{Reason: reasonFull, Message: fmt.Sprintf("member %x has reached its quota and the store takes no writes; restart the masters with a larger --store-quota", a.MemberID)}
	case etcdserverpb.AlarmType_CORRUPT:
		return store.Problem{Reason: reasonCorrupt, Message: fmt.Sprintf("member %x holds other data than the others; remove that master and let it join anew", a.MemberID)}
	}
	return store.Problem{}
}

// relievePeriod is how often a member looks after itself.
const relievePeriod = 30 * time.Second

// relieve gives a full store its space back once there is some, and keeps the peers' certificate fresh.
func (e *Embedded) relieve(ctx context.Context) {
	for ctx.Err() == nil {
		if err := e.relieveOnce(ctx); err != nil && ctx.Err() == nil {
			e.log.Warn("the store is full and cannot be relieved", "error", err)
		}
		e.renewPeers(ctx)
		loop.Sleep(ctx, relievePeriod)
	}
}

// relieveOnce disarms this member's quota alarm when what the store really holds is well below the quota:
// after deletions, compaction, or a start with a larger quota.
func (e *Embedded) relieveOnce(ctx context.Context) error {
	own := uint64(e.server.Server.MemberID())
	resp, err := e.client.AlarmList(ctx)
	if err != nil {
		return err
	}
	for _, a := range resp.Alarms {
		if a.Alarm != etcdserverpb.AlarmType_NOSPACE || a.MemberID != own {
			continue
		}
		if used := e.server.Server.Backend().SizeInUse(); used > e.cfg.Quota*8/10 {
			return fmt.Errorf("%d of %d bytes are in use", used, e.cfg.Quota)
		}
		if e.server.Server.Backend().Size() > e.cfg.Quota*9/10 {
			if _, err := e.client.Defragment(ctx, ""); err != nil {
				return fmt.Errorf("giving back free pages: %w", err)
			}
		}
		if _, err := e.client.AlarmDisarm(ctx, (*clientv3.AlarmMember)(a)); err != nil {
			return fmt.Errorf("disarming the alarm: %w", err)
		}
		e.log.Info("the store has space again", "quota", e.cfg.Quota)
	}
	return nil
}
