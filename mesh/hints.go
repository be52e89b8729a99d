package mesh

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gearmesh.dev/api"
)

// Hint is the highest numbers that were heard. Whoever has less should pull, once per new value:
// the number may be a lie.
type Hint struct {
	Revision int64 // by origin: this host's desired state has reached it
	Seq      int64 // by the host it is about: see api.HostEndpoints
}

// The user events. A payload is the host's name, a space and a decimal number; a restart has the
// number 0.
const (
	eventRevision  = "rev"
	eventEndpoints = "ep"
	eventRestart   = "restart"
)

// sendEvery is the least time between two rounds of hints: however many there are, the latest
// value is enough.
const sendEvery = 100 * time.Millisecond

// hints are what was heard, and what is to be said.
type hints struct {
	wake chan struct{} // one slot

	mu    sync.Mutex
	heard map[api.Name]Hint
	known map[api.Name]bool // members: others' hints are not kept, so memory is bounded
	say   map[said]int64    // latest value of each
	sent  map[said]int64
}

// said is one number that this host tells the others.
type said struct {
	event string
	host  api.Name
}

func (h *hints) init() {
	h.wake = make(chan struct{}, 1)
	h.heard, h.known = map[api.Name]Hint{}, map[api.Name]bool{}
	h.say, h.sent = map[said]int64{}, map[said]int64{}
}

// Hint tells all members that this host has seen the desired state reach a revision.
func (n *Node) Hint(revision int64) { n.hints.put(said{eventRevision, n.config.Name}, revision) }

// HintEndpoints tells all members that a host's endpoints have reached a Seq: usually this
// host's own.
func (n *Node) HintEndpoints(host api.Name, seq int64) { n.hints.put(said{eventEndpoints, host}, seq) }

// Hints gives the highest numbers heard, by host, this one's own included.
func (n *Node) Hints() map[api.Name]Hint {
	n.hints.mu.Lock()
	defer n.hints.mu.Unlock()
	return maps.Clone(n.hints.heard)
}

func (h *hints) put(s said, value int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if value > h.say[s] {
		h.say[s] = value
		kick(h.wake)
	}
}

// unsent gives what has grown since it was sent, or all of it, and takes it as sent.
func (h *hints) unsent(all bool) []event {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []event
	for s, v := range h.say {
		if all || v > h.sent[s] {
			out = append(out, event{s.event, s.host, v})
			h.sent[s] = v
		}
	}
	slices.SortFunc(out, func(a, b event) int { return strings.Compare(a.name+string(a.host), b.name+string(b.host)) })
	return out
}

// hear takes a hint and tells whether it was news.
func (h *hints) hear(e event) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	old := h.heard[e.host]
	next := old
	switch e.name {
	case eventRevision:
		next.Revision = max(old.Revision, e.value)
	case eventEndpoints:
		next.Seq = max(old.Seq, e.value)
	}
	if next == old || !h.known[e.host] {
		return false
	}
	h.heard[e.host] = next
	return true
}

// keep forgets the hosts that are no members.
func (h *hints) keep(members []Member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known = make(map[api.Name]bool, len(members))
	for _, m := range members {
		h.known[m.Name] = true
	}
	maps.DeleteFunc(h.heard, func(host api.Name, _ Hint) bool { return !h.known[host] })
}

// send sends hints when they grow, and repeats them now and then, since events get lost: the more
// members, the seldomer, so that a cluster has about ten repeats a second.
func (n *Node) send(ctx context.Context) {
	for {
		repeat := 30*time.Second + time.Duration(len(n.view.Load().members))*100*time.Millisecond
		all := false
		select {
		case <-ctx.Done():
			return
		case <-n.hints.wake:
		case <-time.After(repeat):
			all = true
		}
		for _, e := range n.hints.unsent(all) {
			n.cast(e)
		}
		if !pause(ctx, sendEvery) {
			return
		}
	}
}

// cast gives an event to serf. One that cannot be sent is repeated later like a lost one.
func (n *Node) cast(e event) {
	if err := n.serf.UserEvent(e.name, e.encode(), false); err != nil {
		n.config.Logger.Debug("a hint was not sent", "error", err)
	}
}

// take handles a user event of another host, or our own, and tells whether users should look.
func (n *Node) take(name string, payload []byte) bool {
	e, err := decodeEvent(name, payload)
	if err != nil {
		n.config.Logger.Debug("an event of the mesh is ignored", "error", err)
		return false
	}
	if e.name == eventRestart {
		if n.hints.isKnown(e.host) && e.host != n.config.Name {
			n.graces.put(e.host, time.Now().Add(n.config.Tuning.RestartGrace))
		}
		return false
	}
	return n.hints.hear(e)
}

func (h *hints) isKnown(host api.Name) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.known[host]
}

// event is a user event.
type event struct {
	name  string
	host  api.Name
	value int64
}

func (e event) encode() []byte { return strconv.AppendInt([]byte(string(e.host)+" "), e.value, 10) }

// decodeEvent reads what anyone with the key may have written.
func decodeEvent(name string, payload []byte) (event, error) {
	if name != eventRevision && name != eventEndpoints && name != eventRestart {
		return event{}, fmt.Errorf("event %.20q is unknown", name)
	}
	host, number, ok := strings.Cut(string(payload), " ")
	value, err := strconv.ParseInt(number, 10, 64)
	if !ok || len(payload) > api.MaxNameLen+21 || api.Name(host).Validate() != nil || err != nil || value < 0 {
		return event{}, fmt.Errorf("event %q: payload %.90q: HOST NUMBER is needed", name, payload)
	}
	return event{name, api.Name(host), value}, nil
}
