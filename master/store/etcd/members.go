package etcd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"gearmesh.dev/internal/loop"
	"gearmesh.dev/master/store"
)

// memberTime bounds a change of the members.
const memberTime = 5 * time.Second

// Members implements store.Cluster.
func (e *Embedded) Members(context.Context) ([]store.Member, error) {
	var out []store.Member
	for _, m := range e.server.Server.Cluster().Members() {
		out = append(out, store.Member{Name: m.Name, Peer: hostOf(m.PeerURLs), Learner: m.IsLearner})
	}
	return out, nil
}

// Voter implements store.Cluster.
func (e *Embedded) Voter() bool {
	select {
	case <-e.voter:
		return true
	default:
		return false
	}
}

// Admit implements store.Cluster. The new member comes as a learner: until it has caught up it
// has no vote, and its failure costs nothing.
func (e *Embedded) Admit(ctx context.Context, name string, address netip.Addr) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*memberTime)
	defer cancel()
	if err := e.openToOthers(ctx); err != nil {
		return "", err
	}
	at := e.peerURL(address)
	if err := e.vacate(ctx, name, at.Host); err != nil {
		return "", err
	}
	if err := e.addLearner(ctx, at.String()); err != nil {
		return "", fmt.Errorf("making room for master %q: %w", name, refusal(err))
	}
	resp, err := e.client.MemberList(ctx)
	if err != nil {
		return "", fmt.Errorf("making room for master %q: %w", name, known(err))
	}
	return seat(resp.Members, name, at.String()), nil
}

// addLearner adds a member. etcd makes its id of the address and the second, and takes no id twice: one that was removed in
// the second in which it was added can come back in the next (computeMemberID in server/etcdserver/api/membership/member.go).
func (e *Embedded) addLearner(ctx context.Context, url string) error {
	_, err := e.client.MemberAddAsLearner(ctx, []string{url})
	if errors.Is(err, rpctypes.ErrMemberNotFound) {
		loop.Sleep(ctx, time.Second)
		_, err = e.client.MemberAddAsLearner(ctx, []string{url})
	}
	return err
}

// seat writes the members as etcd wants them.
func seat(members []*etcdserverpb.Member, name, own string) string {
	var out []string
	for _, m := range members {
		for _, u := range m.PeerURLs {
			if u == own {
				m.Name = name
			}
			out = append(out, m.Name+"="+u)
		}
	}
	return strings.Join(out, ",")
}

// openToOthers makes a member that is alone reachable: its peer address becomes a real one.
func (e *Embedded) openToOthers(ctx context.Context) error {
	if e.ownPeer() != "" {
		return nil
	}
	if e.cfg.Peers == nil || !e.cfg.Address.IsValid() {
		return fmt.Errorf("%w: this master does not know at which address others reach it; give it one with --address", store.ErrNotReady)
	}
	at := e.peerURL(e.cfg.Address)
	if err := e.listen(at.Host); err != nil {
		return err
	}
	if _, err := e.client.MemberUpdate(ctx, uint64(e.server.Server.MemberID()), []string{at.String()}); err != nil {
		e.peers.close()
		e.peers = nil
		return fmt.Errorf("telling other masters where this one is: %w", known(err))
	}
	return nil
}

// vacate takes away the seat of a member that has never started, and refuses a second one of a kind.
func (e *Embedded) vacate(ctx context.Context, name, at string) error {
	for _, m := range e.server.Server.Cluster().Members() {
		same := hostOf(m.PeerURLs) == at
		switch {
		case m.Name == "" && (same || m.IsLearner):
			if _, err := e.client.MemberRemove(ctx, uint64(m.ID)); err != nil {
				return fmt.Errorf("taking back an unused seat: %w", refusal(err))
			}
		case m.Name == name, same:
			return fmt.Errorf("%w: master %q at %s; if it is dead, remove it first: gear master remove %s", store.ErrTaken, m.Name, hostOf(m.PeerURLs), m.Name)
		}
	}
	return nil
}

// Remove implements store.Cluster.
func (e *Embedded) Remove(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*memberTime)
	defer cancel()
	members := e.server.Server.Cluster().Members()
	for _, m := range members {
		if m.Name != name && (m.Name != "" || hostOf(m.PeerURLs) != name) {
			continue
		}
		if len(members) == 1 {
			return fmt.Errorf("%w: %q is the only master", store.ErrNotReady, name)
		}
		if _, err := e.client.MemberRemove(ctx, uint64(m.ID)); err != nil {
			return fmt.Errorf("removing master %q: %w", name, refusal(err))
		}
		return nil
	}
	return fmt.Errorf("master %q: %w", name, store.ErrNotFound)
}

// refusal says in our words why the members cannot be changed.
func refusal(err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrUnhealthy):
		return fmt.Errorf("%w: a master is not reachable, or has been for less than 5 s; wait, or remove a dead one first: gear master list, gear master remove NAME", store.ErrNotReady)
	case errors.Is(err, rpctypes.ErrMemberNotEnoughStarted):
		return fmt.Errorf("%w: too few masters would be left that run", store.ErrNotReady)
	case errors.Is(err, rpctypes.ErrTooManyLearners):
		return fmt.Errorf("%w: another master is joining; wait until it has a vote", store.ErrNotReady)
	}
	return known(err)
}

// becomeVoter asks for a vote until this member has one: the leader gives it when it has caught up.
func (e *Embedded) becomeVoter(ctx context.Context) {
	server := e.server.Server
	for ctx.Err() == nil && server.IsLearner() {
		call, cancel := context.WithTimeout(ctx, memberTime)
		_, err := e.client.MemberPromote(call, uint64(server.MemberID()))
		cancel()
		if err != nil && ctx.Err() == nil {
			e.log.Debug("this master has no vote yet", "error", err)
		}
		loop.Sleep(ctx, 200*time.Millisecond) // also after a success, which this member is still to hear of
	}
	if ctx.Err() == nil {
		close(e.voter)
	}
}

// hostOf gives the host and port of the first peer URL; "" for a member that is alone.
func hostOf(urls []string) string {
	for _, text := range urls {
		if u, err := url.Parse(text); err == nil && u.Scheme == "https" {
			return u.Host
		}
	}
	return ""
}
