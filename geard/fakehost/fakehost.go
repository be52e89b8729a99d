// Package fakehost is a host in memory: it runs pods by noting that they run. The agent's fast
// tests and make dev use it; the real host is package geard/realhost.
//
// It is faithful in what the agent can tell apart: units are installed before they are started, a
// pod's containers report through podstate as gear-run does, and calls fail where a real host would.
package fakehost

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/geard/secrets"
	"gearmesh.dev/linker"
)

// Host is a machine in memory. Its fields may be set before it is used.
type Host struct {
	Dirs podstate.Dirs
	// Missing holds images that no registry has.
	Missing map[string]bool
	// Crash names an operation ("install", "pull", "start", "remove") that does half of its work
	// and then ends with ErrCrash, once.
	Crash string
	// Taken holds ports that something else listens on.
	Taken map[uint16]bool
	// Looked is called before each look at the units, and Pulling before each pull; nil for nobody.
	Looked, Pulling func()

	mu       sync.Mutex
	pods     map[api.UID]*pod
	rules    geard.HostRules
	router   bool
	balanced []api.BalancedLink
	calls    []string
}

type pod struct {
	name      api.Name
	installed bool
	started   int // how often
	up        bool
	stopped   bool
	singleton bool
	leased    bool // its dead-man timer is set
	links     []api.LinkTarget
	flushed   bool // somebody else has taken links away
	open      []connection
	ipv6      bool // since its network was made or looked at
}

// connection is one of a pod through its link on a port.
type connection struct {
	port uint16
	to   netip.AddrPort
}

// ErrCrash is what an operation named by Crash ends with.
var ErrCrash = errors.New("the host crashed here")

var (
	_ geard.Machine   = (*Host)(nil)
	_ geard.Inspector = (*Host)(nil)
)

func (h *Host) podLocked(p api.Pod) *pod {
	if h.pods == nil {
		h.pods = map[api.UID]*pod{}
	}
	x := h.pods[p.Metadata.UID]
	if x == nil {
		x = &pod{name: p.Metadata.Name}
		h.pods[p.Metadata.UID] = x
	}
	return x
}

func (h *Host) callLocked(what string, p api.Pod) bool {
	h.calls = append(h.calls, what+" "+string(p.Metadata.Name))
	crash := h.Crash == what
	if crash {
		h.Crash = ""
	}
	return crash
}

// Pods implements geard.Machine.
func (h *Host) Pods(_ context.Context, pods []api.Pod) (map[api.UID]geard.UnitsState, error) {
	if h.Looked != nil {
		h.Looked()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[api.UID]geard.UnitsState{}
	for _, p := range pods {
		if x := h.pods[p.Metadata.UID]; x != nil {
			out[p.Metadata.UID] = geard.UnitsState{Installed: x.installed, Up: x.up, Stopped: x.stopped, Leased: x.leased}
		}
	}
	return out, nil
}

// Install implements geard.Machine.
func (h *Host) Install(_ context.Context, p api.Pod) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.podLocked(p)
	if h.callLocked("install", p) {
		return ErrCrash
	}
	x.installed, x.singleton = true, p.Singleton()
	return nil
}

// Pull implements geard.Machine.
func (h *Host) Pull(_ context.Context, p api.Pod) error {
	if h.Pulling != nil {
		h.Pulling()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.callLocked("pull", p) {
		return ErrCrash
	}
	for _, c := range p.Spec.Template.All() {
		if h.Missing[c.Image] {
			return geard.Because(api.ReasonImagePull, fmt.Errorf("image %q: not found", c.Image))
		}
	}
	return nil
}

// Start implements geard.Machine.
func (h *Host) Start(_ context.Context, p api.Pod) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.podLocked(p)
	crash := h.callLocked("start", p)
	if !x.installed {
		return fmt.Errorf("pod %q has no units", p.Metadata.Name)
	}
	if p.Singleton() && !x.leased {
		return fmt.Errorf("singleton %q has no timer", p.Metadata.Name)
	}
	if !x.up {
		x.up = true
		x.started++
	}
	for i, c := range p.Spec.Template.All() {
		s := api.ContainerStatus{Name: c.Name, State: api.RunRunning, Ready: true, Started: time.Now()}
		if i < len(p.Spec.Template.InitContainers) {
			s.State, s.Ready = api.RunDone, false
		}
		if err := errors.Join(h.lay(p, c), h.Dirs.SaveRun(p.Metadata.UID, c.Name, s)); err != nil {
			return err
		}
	}
	if crash {
		return ErrCrash // systemd has the job and carries on
	}
	return nil
}

// Lease implements geard.Machine.
func (h *Host) Lease(_ context.Context, p api.Pod) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.podLocked(p)
	h.callLocked("lease", p)
	if !x.installed {
		return fmt.Errorf("pod %q has no units", p.Metadata.Name)
	}
	x.leased = true
	return nil
}

// Lapse implements geard.Machine.
func (h *Host) Lapse(_ context.Context, p api.Pod) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.callLocked("lapse", p)
	x := h.podLocked(p)
	x.up, x.leased = false, false
	return nil
}

// Elapse lets a singleton's timer come to its end, as systemd does without the agent.
func (h *Host) Elapse(uid api.UID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pods[uid].up, h.pods[uid].leased = false, false
}

// Unset takes a singleton's timer away, as an operator could.
func (h *Host) Unset(uid api.UID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pods[uid].leased = false
}

// Renew implements geard.Machine.
func (h *Host) Renew(_ context.Context, p api.Pod, container api.Name, signal string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.callLocked(strings.TrimSpace("renew "+string(container)+" "+signal), p) {
		return ErrCrash
	}
	for _, c := range p.Spec.Template.All() {
		if c.Name == container && signal == "" {
			return h.lay(p, c)
		}
	}
	return nil
}

// lay gives a container its secrets, as gear-run does.
func (h *Host) lay(p api.Pod, c api.Container) error {
	if !secrets.Uses(c) {
		return nil
	}
	s, err := secrets.Open(h.Dirs)
	if err != nil {
		return err
	}
	return s.Lay(p, c)
}

// Remove implements geard.Machine.
func (h *Host) Remove(_ context.Context, p api.Pod) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.podLocked(p)
	x.up = false
	if h.callLocked("remove", p) {
		return ErrCrash
	}
	delete(h.pods, p.Metadata.UID)
	return nil
}

// Relink implements geard.Machine.
func (h *Host) Relink(_ context.Context, l geard.PodLinks) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.pods[l.UID]
	if x == nil || !x.up {
		return geard.ErrNoNamespace
	}
	x.links, x.flushed = l.New, false
	if !l.Known {
		x.ipv6 = h.rules.IPv6.IsValid()
	}
	for _, d := range l.Over {
		h.calls = append(h.calls, "drained "+d.Backend.String())
	}
	return nil
}

// Connect lets a pod have a connection through its link on a port, which stays open.
func (h *Host) Connect(uid api.UID, port uint16, to netip.AddrPort) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pods[uid].open = append(h.pods[uid].open, connection{port, to})
}

// LinkStates implements geard.Machine.
func (h *Host) LinkStates(_ context.Context, uid api.UID, links []api.LinkTarget, _ []linker.Drain) ([]api.LinkState, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.pods[uid]
	if x == nil || !x.up {
		return nil, geard.ErrNoNamespace
	}
	out := make([]api.LinkState, len(links))
	for i, l := range links {
		for _, c := range x.open {
			if c.port == l.Port {
				out[i].Backends = append(out[i].Backends, api.LinkBackend{Address: c.to, Open: 1, Gone: !slices.Contains(l.Backends, c.to)})
			}
		}
	}
	return out, nil
}

// ListensIPv6 implements geard.Machine: pods listen on all their ports.
func (h *Host) ListensIPv6(_ context.Context, uid api.UID, ports []api.HostPort) ([]api.Name, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []api.Name
	for _, p := range ports {
		if x := h.pods[uid]; x != nil && x.up && x.ipv6 {
			out = append(out, p.Name)
		}
	}
	return out, nil
}

// Touched implements geard.Machine.
func (h *Host) Touched(_ context.Context, pods []api.UID) ([]api.UID, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(pods), func(uid api.UID) bool { return h.pods[uid] == nil || !h.pods[uid].flushed }), nil
}

// FlushLinks does what somebody does who flushes the rules in a pod's namespace.
func (h *Host) FlushLinks(uid api.UID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pods[uid].links, h.pods[uid].flushed = nil, true
}

// IPv6 tells whether a pod has it.
func (h *Host) IPv6(uid api.UID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pods[uid] != nil && h.pods[uid].ipv6
}

// HostRules implements geard.Machine.
func (h *Host) HostRules(_ context.Context, r geard.HostRules) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rules = r
	return nil
}

// Talking implements geard.Machine: nobody talks.
func (h *Host) Talking(context.Context) (func(pod, to netip.Addr) bool, error) {
	return func(_, _ netip.Addr) bool { return false }, nil
}

// Rules gives the host's rules as they were last laid.
func (h *Host) Rules() geard.HostRules {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rules
}

// PortFree implements geard.Machine.
func (h *Host) PortFree(_ api.Protocol, port uint16) bool { return !h.Taken[port] }

// Router implements geard.Machine.
func (h *Host) Router(_ context.Context, on bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.router = on
	return nil
}

// Balance implements geard.Machine.
func (h *Host) Balance(_ context.Context, links []api.BalancedLink, _ func(netip.Addr) bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.balanced = links
	return nil
}

// Reboot stops every pod and starts those with units again, as systemd does without the agent.
func (h *Host) Reboot() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, x := range h.pods {
		x.links = nil
		if x.leased, x.up = false, x.installed && !x.singleton; x.up {
			x.started++
		}
	}
}

// Stop stops a pod as an operator does with systemctl.
func (h *Host) Stop(uid api.UID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pods[uid].up, h.pods[uid].stopped = false, true
}

// String prints the host: a line a pod, then the router, for tests to compare.
func (h *Host) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var b strings.Builder
	byName := func(x, y *pod) int { return cmp.Compare(x.name, y.name) }
	for _, x := range slices.SortedFunc(maps.Values(h.pods), byName) {
		state := "down"
		if x.up {
			state = "up"
		}
		fmt.Fprintf(&b, "%s %s started=%d", x.name, state, x.started)
		for _, l := range x.links {
			fmt.Fprintf(&b, " %s:%d→%v", l.Service, l.Port, l.Backends)
		}
		b.WriteString("\n")
	}
	for _, l := range h.balanced {
		fmt.Fprintf(&b, "balancer %s/%s/%s:%d→%v\n", l.Project, l.Service, l.PortName, l.Port, l.Backends)
	}
	if h.router {
		b.WriteString("router\n")
	}
	return b.String()
}

// Calls gives what was asked of the host so far, in order.
func (h *Host) Calls() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.calls)
}
