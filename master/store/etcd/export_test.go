package etcd

import (
	"time"

	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

// Patient lets calls take as long as a machine that stalls needs for them: for tests of what they do, not of when they are given up.
func (s *Store) Patient() *Store {
	s.patience = time.Minute
	return s
}

// Under gives a store of its own in the same etcd, below another prefix.
func (e *Embedded) Under(prefix string) *Store {
	client := v3client.New(e.server.Server)
	return newStore(client, prefix, func() error { return ignoreCancelled(client.Close()) })
}

// ID gives the member's number.
func (e *Embedded) ID() uint64 { return uint64(e.server.Server.MemberID()) }
