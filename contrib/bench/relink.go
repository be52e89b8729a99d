package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/geard"
	"gearmesh.dev/geard/fakehost"
	"gearmesh.dev/geard/podnet"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/geard/realhost"
	"gearmesh.dev/internal/hostexec"
	"gearmesh.dev/linker"
)

// P4.pods: so many pods on one host, each with a link to the same service, of which one endpoint changes.
const (
	relinkPods   = 1000
	relinkBound  = 300 // ms
	relinkSample = 20  // pods whose links are changed by other means, for comparison
	relinkPort   = 5432
	relinkPause  = 3 * time.Second // between two changes: longer than the agent takes to bring the directory to disk
)

// relinked is what relinkMany gives.
type relinked struct {
	Last            []time.Duration // the agent hears of a change → the last pod's rules are swapped, by its own word; then they are looked at
	Half            []time.Duration // → those of half of them
	CPU             []time.Duration // of the agent, until the last
	Single, Restore time.Duration   // one pod by a call of iptables a rule, and by one iptables-restore
	Calls           int             // of iptables, that Single takes
}

// measureRelink is P4.pods. It needs no lab.
func measureRelink(ctx context.Context, b *bench) ([]figures.Row, error) {
	var r relinked
	if err := isolated(ctx, "relink", b.runs, &r); err != nil {
		return nil, err
	}
	return relinkRows(r), nil
}

func relinkRows(r relinked) []figures.Row {
	single := figures.Times("P4.single", fmt.Sprintf("by %d iptables calls a pod; %d × the mean of %d", r.Calls, relinkPods, relinkSample), []time.Duration{relinkPods * r.Single})
	restore := figures.Times("P4.restore", fmt.Sprintf("by one iptables-restore a pod, one after the other; %d × the mean of %d", relinkPods, relinkSample), []time.Duration{relinkPods * r.Restore})
	pods := figures.Times("P4.pods", fmt.Sprintf("an endpoint changes → %d pods of a host re-linked, the last", relinkPods), r.Last)
	return []figures.Row{pods.Against("single iptables calls", single.Value).AtMost(relinkBound), figures.Times("P4.pods.half", "the same, half of them", r.Half),
		figures.Times("P4.pods.cpu", "the same, processor time of the agent", r.CPU), restore, single}
}

// relinkMany runs the agent itself on a host of pods: their networks and rules are real, only that their units run is made up.
func relinkMany(ctx context.Context, i isolation) (any, error) {
	s := &simulatedHost{isolation: i, dirs: podstate.Dirs{State: filepath.Join(i.dir, "state"), Run: filepath.Join(i.dir, "run")},
		patches: make(chan api.Patch), told: make(chan int, 1), swaps: make(chan swap, 2*relinkPods)}
	if err := s.makePods(ctx); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended, err := s.startAgent(ctx)
	if err != nil {
		return nil, err
	}
	r, err := s.measure(ctx)
	stop()
	return r, errors.Join(err, <-ended)
}

// simulatedHost is a host with a real agent, and the agent's master and mesh.
type simulatedHost struct {
	isolation
	dirs    podstate.Dirs
	pods    []api.Pod
	patches chan api.Patch
	told    chan int // how many pods are ready, as the agent last told its master
	swaps   chan swap
	seq     int64
}

// swap is a pod whose rules the agent has changed, where they lead to now, and when.
type swap struct {
	uid api.UID
	to  netip.AddrPort
	at  time.Time
}

var (
	_ geard.Master = (*simulatedHost)(nil)
	_ geard.Mesh   = aloneMesh{}
)

// Desired implements geard.Master.
func (s *simulatedHost) Desired(ctx context.Context, _ api.Name) iter.Seq2[api.Patch, error] {
	return func(yield func(api.Patch, error) bool) {
		for {
			select {
			case <-ctx.Done():
				return
			case p := <-s.patches:
				if !yield(p, nil) {
					return
				}
			}
		}
	}
}

// Report implements geard.Master.
func (s *simulatedHost) Report(_ context.Context, r api.HostReport) (api.ReportAnswer, error) {
	ready := 0
	for _, p := range r.Pods {
		if p.Status.Ready {
			ready++
		}
	}
	for _, c := range r.Conditions {
		s.say("P4.pods: the agent has a problem: %s: %s", c.Reason, c.Message)
	}
	select {
	case <-s.told:
	default:
	}
	s.told <- ready
	return api.ReportAnswer{}, nil
}

// aloneMesh is the mesh of a host that hears of nobody.
type aloneMesh struct{}

// Down implements geard.Mesh.
func (aloneMesh) Down(api.Name) bool { return false }

// Changed implements geard.Mesh.
func (aloneMesh) Changed() <-chan struct{} { return nil }

// Alive implements geard.Mesh.
func (aloneMesh) Alive() int { return 1 }

func (aloneMesh) SetKeys([][]byte) error { return nil }

// HintEndpoints implements geard.Mesh.
func (aloneMesh) HintEndpoints(int64) {}

// Hints implements geard.Mesh.
func (aloneMesh) Hints() map[api.Name]int64 { return nil }

// Join implements geard.Mesh.
func (aloneMesh) Join([]netip.Addr) {}

// Endpoints implements geard.Peers.
func (aloneMesh) Endpoints(context.Context, netip.Addr) (api.HostEndpoints, error) {
	return api.HostEndpoints{}, errors.New("there is no other host")
}

// machine has the real host's rules, and units in memory.
type machine struct {
	*fakehost.Host
	real  *realhost.Host
	swaps chan<- swap
}

// Relink implements geard.Machine.
func (m machine) Relink(ctx context.Context, l geard.PodLinks) error {
	err := m.real.Relink(ctx, l)
	if err == nil {
		m.swaps <- swap{l.UID, l.New[0].Backends[0], time.Now()}
	}
	return err
}

// Touched implements geard.Machine.
func (m machine) Touched(ctx context.Context, pods []api.UID) ([]api.UID, error) {
	return m.real.Touched(ctx, pods)
}

// HostRules implements geard.Machine.
func (m machine) HostRules(ctx context.Context, r geard.HostRules) error {
	return m.real.HostRules(ctx, r)
}

// The two endpoints that take turns: of two pods on another host.
func relinkBackend(turn int64) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 2}), 20000+uint16(turn%2))
}

// directory is the cluster's at a turn.
func (s *simulatedHost) endpoints(turn int64) api.HostEndpoints {
	return api.HostEndpoints{Host: "h2", Seq: turn + 1, Endpoints: []api.Endpoint{{Project: "bench", Service: "db", Pod: "db-1", Port: "main", Protocol: api.TCP, Address: relinkBackend(turn), Ready: true}}}
}

// simulatedPod gives the ith pod and its address.
func simulatedPod(i int) (api.Pod, netip.Addr) {
	var p api.Pod
	p.Header = api.Header{Kind: api.KindPod, Metadata: api.Metadata{Name: api.Name(fmt.Sprintf("app-%d", i)), Project: "bench", UID: simulatedUID(i)}}
	p.Spec = api.PodSpec{Service: "app", Hash: "1", Host: "h1", Template: api.PodTemplate{Containers: []api.Container{{Name: "main", Image: "x"}},
		Links: []api.Link{{Service: "db", LocalPort: relinkPort, Protocol: api.TCP, Retarget: api.Drain}}}}
	return p, netip.AddrFrom4([4]byte{10, 127, byte(1 + i/250), byte(1 + i%250)})
}

// simulatedUID gives a UID whose first 12 characters, which name the pod's interface, are its own.
func simulatedUID(i int) api.UID {
	digits := []byte("aaaaaaaaaaaaaaaa")
	for at := 11; i > 0; i /= 26 {
		digits[at] = 'a' + byte(i%26)
		at--
	}
	return api.UID(digits)
}

// makePods puts the pods on disk and lays their networks, as their units do.
func (s *simulatedHost) makePods(ctx context.Context) error {
	d := s.desired().Directory
	start := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i := range relinkPods {
		p, address := simulatedPod(i)
		s.pods = append(s.pods, p)
		g.Go(func() error {
			links := d.Resolver("h1").Targets("bench", p.Metadata.Name, p.Spec.Template.Links)
			if err := s.dirs.Save(p, podstate.Net{Address: address, HostAddress: netip.AddrFrom4([4]byte{192, 0, 2, 1}), Domain: domain}, links); err != nil {
				return err
			}
			return podnet.Up(ctx, s.dirs, p.Metadata.UID, podnet.Hooks{Links: layFresh})
		})
	}
	err := g.Wait()
	s.say("P4.pods: %d networks of pods made in %.1f s", relinkPods, time.Since(start).Seconds())
	return err
}

// layFresh lays a pod's links as gear-run does at its start.
func layFresh(ctx context.Context, netns string, _ bool, pod netip.Addr, links []api.LinkTarget) error {
	rules, err := linker.PodPlan(pod, links)
	if err != nil {
		return err
	}
	return linker.Lay(ctx, netns, rules)
}

// desired is the state of the cluster at first.
func (s *simulatedHost) desired() api.Desired {
	return api.Desired{Term: 1, Revision: 1, Pods: s.pods, Directory: api.Directory{
		Hosts:     []api.HostEntry{{Name: "h1", Address: netip.AddrFrom4([4]byte{192, 0, 2, 1})}, {Name: "h2", Address: netip.AddrFrom4([4]byte{192, 0, 2, 2})}},
		Services:  []api.ServiceEntry{{Project: "bench", Name: "db", Ports: []api.Port{{Name: "main", Port: relinkPort, Protocol: api.TCP}}}},
		Endpoints: []api.HostEndpoints{s.endpoints(0)}}}
}

// startAgent starts the agent on what is on disk, and waits until all is as it shall be.
func (s *simulatedHost) startAgent(ctx context.Context) (ended chan error, err error) {
	log := slog.New(slog.DiscardHandler)
	host := machine{&fakehost.Host{Dirs: s.dirs}, realhost.New(s.dirs, nil, nil, log), s.swaps}
	a, err := geard.New(geard.Config{Name: "h1", Address: netip.AddrFrom4([4]byte{192, 0, 2, 1}), Domain: domain, Version: "bench", Dirs: s.dirs, Master: s, Mesh: aloneMesh{}, Peers: aloneMesh{},
		Machine: host, Inspect: host.Host, Log: log})
	if err != nil {
		return nil, err
	}
	for _, p := range s.pods { // their units run already, as after a restart of the agent
		if err := errors.Join(host.Install(ctx, p), host.Start(ctx, p)); err != nil {
			return nil, err
		}
	}
	start := time.Now()
	ended = make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	s.patches <- api.FullPatch(s.desired())
	for ready := 0; ready < relinkPods; {
		select {
		case <-ctx.Done():
			return ended, ctx.Err()
		case <-time.After(3 * time.Minute):
			return ended, fmt.Errorf("only %d of %d pods are ready", ready, relinkPods)
		case ready = <-s.told:
		}
	}
	s.say("P4.pods: the agent knows them all after %.1f s", time.Since(start).Seconds())
	return ended, nil
}

// measure changes the endpoint again and again.
func (s *simulatedHost) measure(ctx context.Context) (relinked, error) {
	var r relinked
	var rules rulesIn
	defer func() { rules.close() }()
	for _, p := range s.pods {
		if err := rules.add(s.dirs.Namespace(p.Metadata.UID)); err != nil {
			return r, err
		}
	}
	if _, err := s.swapped(ctx); err != nil { // the agent's start
		return r, err
	}
	for i := range s.runs + 1 {
		if err := sleep(ctx, relinkPause); err != nil {
			return r, err
		}
		took, spent, err := s.change(ctx)
		if err := cmp.Or(err, s.lead(rules)); err != nil {
			return r, err
		}
		s.say("P4.pods run %d: half after %v, the last after %v, with %v of processor time", i, took[len(took)/2], took[len(took)-1], spent)
		if i > 0 { // the first one warms up
			r.Half, r.Last, r.CPU = append(r.Half, took[len(took)/2]), append(r.Last, took[len(took)-1]), append(r.CPU, spent)
		}
	}
	return r, s.compare(ctx, &r)
}

// change changes the endpoint once, and gives how long the pods took, in order, and the processor time of this process until the last.
func (s *simulatedHost) change(ctx context.Context) (took []time.Duration, spent time.Duration, err error) {
	before, err := cpuOf(os.Getpid())
	if err != nil {
		return nil, 0, err
	}
	s.seq++
	start := time.Now()
	s.patches <- api.Patch{Term: 1, Revision: 1 + s.seq, Endpoints: []api.HostEndpoints{s.endpoints(s.seq)}}
	at, err := s.swapped(ctx)
	if err != nil {
		return nil, 0, err
	}
	after, err := cpuOf(os.Getpid())
	for _, t := range at {
		took = append(took, t.Sub(start))
	}
	slices.Sort(took)
	return took, after - before, err
}

// swapped waits until all pods have been changed to the present backend, and gives when.
func (s *simulatedHost) swapped(ctx context.Context) (map[api.UID]time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	at := map[api.UID]time.Time{}
	for len(at) < relinkPods {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("only %d of %d pods were changed: %w", len(at), relinkPods, ctx.Err())
		case x := <-s.swaps:
			if x.to == relinkBackend(s.seq) && at[x.uid].IsZero() {
				at[x.uid] = x.at
			}
		}
	}
	return at, nil
}

// lead makes sure that all links lead to the present backend, and none to the one before.
func (s *simulatedHost) lead(rules rulesIn) error {
	for i := range rules {
		is, err := rules.leads(i, relinkBackend(s.seq))
		was, err2 := rules.leads(i, relinkBackend(s.seq-1))
		if err := errors.Join(err, err2); err != nil || !is || was {
			return fmt.Errorf("pod %d leads to the new backend: %t, to the old one: %t: %w", i, is, was, err)
		}
	}
	return nil
}

// compare changes the links of some of the pods by other means.
func (s *simulatedHost) compare(ctx context.Context, r *relinked) error {
	to := relinkBackend(s.seq + 1)
	for _, p := range s.pods[:relinkSample] {
		ns := s.dirs.Namespace(p.Metadata.UID)
		text, calls, err := rawChange(ctx, ns, relinkBackend(s.seq), to)
		if err != nil {
			return err
		}
		start := time.Now()
		for _, argv := range calls {
			if _, err := hostexec.Run(ctx, hostexec.Cmd{Argv: argv, NetNS: ns}); err != nil {
				return err
			}
		}
		between := time.Now()
		if _, err := hostexec.Run(ctx, hostexec.Cmd{Argv: []string{"iptables-restore", "--noflush", "-w"}, NetNS: ns, Stdin: []byte(text)}); err != nil {
			return err
		}
		r.Single += between.Sub(start) / relinkSample
		r.Restore += time.Since(between) / relinkSample
		r.Calls = len(calls)
	}
	return nil
}

// rawChange gives what turns the links of a namespace to another backend, made of what iptables-save says: a text for iptables-restore, and
// calls of iptables, one a rule.
func rawChange(ctx context.Context, netns string, from, to netip.AddrPort) (text string, calls [][]string, err error) {
	out, err := hostexec.Run(ctx, hostexec.Cmd{Argv: []string{"iptables-save", "-t", "nat"}, NetNS: netns})
	if err != nil {
		return "", nil, err
	}
	rules := turned(string(out), from, to)
	if len(rules) == 0 {
		return "", nil, fmt.Errorf("no rule of %q leads to %s: %s", netns, from, out)
	}
	for i, rule := range rules {
		words := append([]string{"iptables", "-w", "-t", "nat", "-R", "GEAR-LINKS", fmt.Sprint(i + 1)}, strings.Fields(strings.ReplaceAll(rule, `"`, ""))[2:]...)
		calls = append(calls, words)
	}
	return "*nat\n-F GEAR-LINKS\n" + strings.Join(rules, "\n") + "\nCOMMIT\n", calls, nil
}

// turned gives the rules of links in a text of iptables-save, with another backend.
func turned(save string, from, to netip.AddrPort) (rules []string) {
	for line := range strings.Lines(save) {
		if strings.HasPrefix(line, "-A GEAR-LINKS ") && strings.Contains(line, " "+from.String()) {
			rules = append(rules, strings.ReplaceAll(strings.TrimSpace(line), " "+from.String(), " "+to.String()))
		}
	}
	return rules
}
