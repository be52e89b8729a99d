package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/mesh"
)

// What F15 sends and how long an intruder tries to get in. logLines is what the agents of all hosts may say of all that.
const (
	junkDatagrams = 100_000
	intrusion     = 10 * time.Second
	logLines      = 300
)

// gossip is F15: noise, and members of the mesh that are no hosts of the cluster, from this machine's end of the lab's network.
func gossip(ctx context.Context, r *rig) ([]figures.Row, error) {
	before, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	since, err := r.sh(ctx, target, `date +%s`)
	if err != nil {
		return nil, err
	}
	took, err := r.sendJunk(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := r.intrude(ctx, "keyless", mesh.KeyLen, nil); err != nil {
		return nil, err
	}
	key, err := r.sh(ctx, target, `cat /var/lib/gear/agent/gossip.key`)
	if err != nil {
		return nil, err
	}
	seen, err := r.intrude(ctx, "thief", 0, []byte(key))
	if err != nil {
		return nil, err
	}
	return r.judgeGossip(ctx, before, seen, took, strings.TrimSpace(since))
}

// judgeGossip gives the rows: seen are the members that a thief of the key has been told of.
func (r *rig) judgeGossip(ctx context.Context, before view, seen []mesh.Member, took time.Duration, since string) ([]figures.Row, error) {
	known := map[api.Name]bool{}
	for _, m := range seen {
		known[m.Name] = true
	}
	for _, h := range hosts() {
		if !known[api.Name(h)] {
			return nil, fmt.Errorf("with the stolen key %v are seen, without %s: this shows nothing", seen, h)
		}
	}
	without := 0.0
	if known["keyless"] {
		without = 1
	}
	listed := 0.0
	for _, name := range []string{"keyless", "thief"} {
		if _, err := r.Gear(ctx, "get", "host", name); err == nil {
			listed++
		}
	}
	moved, err := r.changed(ctx, "F15", before)
	if err != nil {
		return nil, err
	}
	lines := 0
	for _, h := range hosts() {
		out, err := r.sh(ctx, h, `journalctl -q -o cat --since "@$1" -u gear-agent.service | wc -l`, since)
		var n int
		if _, scanErr := fmt.Sscan(out, &n); err != nil || scanErr != nil {
			return nil, errors.Join(err, scanErr)
		}
		lines += n
	}
	return []figures.Row{
		figures.Times("F15.junk", fmt.Sprintf("%d junk datagrams at the gossip port of %s are sent", junkDatagrams, target), []time.Duration{took}),
		figures.Row{ID: "F15.keyless", What: "members without the key, as a member sees it", Value: without, Unit: "members"}.WithGoal("0 members", without == 0),
		figures.Row{ID: "F15.listed", What: "hosts of the cluster made by gossip, with the stolen key too", Value: listed, Unit: "hosts"}.WithGoal("0 hosts", listed == 0),
		figures.Row{ID: "F15.moved", What: "pods moved or restarted by noise, a node without the key and one with it", Value: moved, Unit: "pods"}.WithGoal("0 pods", moved == 0),
		figures.Amounts("F15.log", "lines of log of all agents for it", "lines", []float64{float64(lines)}).AtMost(logLines),
	}, nil
}

// sendJunk sends noise of all sizes to the gossip port of the target, as fast as it is taken.
func (r *rig) sendJunk(ctx context.Context) (time.Duration, error) {
	at, err := r.address(ctx, target)
	if err != nil {
		return 0, err
	}
	conn, err := net.Dial("udp", netip.AddrPortFrom(at, mesh.DefaultPort).String())
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }() // nothing of a socket for datagrams is left to be written
	noise := make([]byte, 64<<10)
	if _, err := rand.Read(noise); err != nil {
		return 0, err
	}
	start := time.Now()
	for i := range junkDatagrams {
		size := 1 + i%1400
		from := (i * 7919) % (len(noise) - size)
		// A port that nobody listens on is told of by an error; the agent is seen to live on by what follows.
		if _, err := conn.Write(noise[from : from+size]); err != nil && ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
	return time.Since(start), nil
}

// intrude is a node of the mesh for a while, with a key or with random bytes in its place, and gives the members it has seen.
// It claims to know more than all others of the target's endpoints and of the store.
func (r *rig) intrude(ctx context.Context, name api.Name, random int, key []byte) ([]mesh.Member, error) {
	if random > 0 {
		key = make([]byte, random)
		if _, err := rand.Read(key); err != nil {
			return nil, err
		}
	}
	_, own, err := r.Lab.Addresses()
	if err != nil {
		return nil, err
	}
	n, err := mesh.Start(mesh.Config{Name: name, Address: own, Key: key})
	if err != nil {
		return nil, err
	}
	var peers []netip.Addr
	for _, h := range hosts() {
		at, err := r.address(ctx, h)
		if err != nil {
			return nil, errors.Join(err, n.Close(ctx))
		}
		peers = append(peers, at)
	}
	n.Join(peers)
	n.Hint(1 << 40)
	n.HintEndpoints(target, 1<<40)
	time.Sleep(intrusion)
	seen := n.Members()
	return seen, n.Leave(ctx)
}

// address gives a host's address in the lab.
func (r *rig) address(ctx context.Context, host string) (netip.Addr, error) {
	list, err := r.Lab.List(ctx)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, h := range list {
		if h.Name == host {
			return h.Address, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("the lab has no host %s", host)
}
