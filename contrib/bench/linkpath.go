package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/story"
	"gearmesh.dev/geard/podnet"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/linker"
)

// What P5 measures, in rounds in which all ways take turns, so that all see the same noise.
const (
	pathRounds   = 8  // a run
	pathTurns    = 5  // a round, of each way
	pathConnects = 25 // connections a turn
	pathPour     = 40 * time.Millisecond
	pathBound    = 0.97
	pathPort     = 5432
)

// The two hosts of P5. The backend serves the link at a host port as pods have them, and everybody at the port that routers have, which
// pods reach without a link: so both ways pass the same rules of the host.
func pathLink() netip.AddrPort   { return netip.MustParseAddrPort("192.0.2.2:20000") }
func pathDirect() netip.AddrPort { return netip.MustParseAddrPort("192.0.2.2:80") }
func pathOwn() netip.Addr        { return netip.MustParseAddr("192.0.2.1") }

// The ways from the pod to the backend.
const (
	byLink   = "link"
	byDirect = "direct"
	byProxy  = "proxy"
)

func pathWays() map[string]netip.AddrPort {
	return map[string]netip.AddrPort{byLink: loopback(pathPort), byDirect: pathDirect(), byProxy: loopback(pathPort + 1)}
}

// pathSamples are of one way, or of one size of the cluster. Each turn gives a rate and a connection, each round the processor time, whose
// clock is a coarse one.
type pathSamples struct {
	Rate     []float64 // MiB/s over one connection
	Connect  []float64 // µs of the median connection of a turn
	CPU      []float64 // ms of this process, and of the proxy, a GiB
	CPUEach  []float64 // µs of them a connection
	Rules    int       // of the pod
	HostSize int       // rules of the host
}

// pathResult is what linkPath gives.
type pathResult struct {
	Ways   map[string]*pathSamples
	Sizes  map[int]*pathSamples // by the number of services in the cluster, of which the pod links one
	All    *pathSamples         // a pod that links 10,000 services, by the last of them
	Beside *pathSamples         // the direct connections that took turns with these
}

// pathSizes are the numbers of services.
func pathSizes() []int { return []int{10, 1_000, 10_000} }

// measurePath is P5. It needs no lab.
func measurePath(ctx context.Context, b *bench) ([]figures.Row, error) {
	var r pathResult
	if err := isolated(ctx, "path", b.runs, &r); err != nil {
		return nil, err
	}
	return pathRows(r), nil
}

// against compares two ways by the ratios of turns that followed each other, of which it takes the median: what slows the machine down slows both.
func against(row figures.Row, name string, peer []float64) figures.Row {
	row = row.Against(name, figures.Median(peer))
	ratios := make([]float64, len(row.Samples))
	for i, s := range row.Samples {
		ratios[i] = s / peer[i]
	}
	row.Ratio = figures.Median(ratios)
	return row
}

func notSlower(r figures.Row) figures.Row {
	return r.WithGoal(fmt.Sprintf("≤ peer / %.2f", pathBound), r.Ratio <= 1/pathBound)
}

func notLess(r figures.Row) figures.Row {
	return r.WithGoal(fmt.Sprintf("≥ %.2f × peer", pathBound), r.Ratio >= pathBound)
}

func pathRows(r pathResult) []figures.Row {
	link, direct, proxy := r.Ways[byLink], r.Ways[byDirect], r.Ways[byProxy]
	const peer, haproxy = "direct", "HAProxy, mode tcp, in the pod"
	rate := func(s *pathSamples, id, what string) figures.Row { return figures.Amounts(id, what, "MiB/s", s.Rate) }
	connect := func(s *pathSamples, id, what string) figures.Row { return figures.Amounts(id, what, "µs", s.Connect) }
	rows := []figures.Row{
		notLess(against(rate(link, "P5", "link data path, one connection"), peer, direct.Rate)),
		notSlower(against(connect(link, "P5.connect", "connect, a byte there and back, close"), peer, direct.Connect)),
		against(rate(proxy, "P5.proxy", "one connection through "+haproxy), peer, direct.Rate),
		against(connect(proxy, "P5.proxy.connect", "connect … close through it"), peer, direct.Connect),
		against(figures.Amounts("P5.cpu", "processor time of both ends a GiB over the link", "ms", link.CPU), peer, direct.CPU),
		against(figures.Amounts("P5.cpu.connect", "the same a connection", "µs", link.CPUEach), peer, direct.CPUEach),
		against(figures.Amounts("P5.cpu.proxy", "of both ends and the proxy a GiB", "ms", proxy.CPU), peer, direct.CPU),
		against(figures.Amounts("P5.cpu.proxy.connect", "the same a connection", "µs", proxy.CPUEach), peer, direct.CPUEach),
	}
	few, sizes := r.Sizes[pathSizes()[0]], pathSizes()
	for _, n := range sizes[1:] {
		s, in := r.Sizes[n], fmt.Sprintf("%d services in the cluster, one linked", n)
		id, peer := fmt.Sprintf("P5.%d", n), fmt.Sprintf("with %d", sizes[0])
		rows = append(rows,
			notLess(against(rate(s, id, in+": one connection"), peer, few.Rate)),
			notSlower(against(connect(s, id+".connect", in+": connect … close"), peer, few.Connect)),
			figures.Amounts(id+".rules", in+": rules of the pod and its host", "rules", []float64{float64(s.Rules + s.HostSize)}).Against(peer, float64(few.Rules+few.HostSize)).NoMoreThan(1))
	}
	all := fmt.Sprintf("all %d services linked by one pod, over its last link", sizes[len(sizes)-1])
	return append(rows, against(rate(r.All, "P5.all", all+": one connection"), peer, r.Beside.Rate), against(connect(r.All, "P5.all.connect", all+": connect … close"), peer, r.Beside.Connect),
		figures.Amounts("P5.all.rules", all+": rules of the pod", "rules", []float64{float64(r.All.Rules)}))
}

// pathLab is a pod with a link on a host, and another host with the backend.
type pathLab struct {
	isolation
	pod    *netspace
	file   string // of the pod's namespace
	at     podstate.Net
	laid   linker.Rules
	proxy  *exec.Cmd
	ending func()
}

// linkPath measures in a network of its own.
func linkPath(ctx context.Context, i isolation) (any, error) {
	p := &pathLab{isolation: i}
	if err := p.make(ctx); err != nil {
		return nil, err
	}
	if err := p.startProxy(ctx); err != nil {
		return nil, err
	}
	defer p.ending()
	return p.measure(ctx)
}

func (p *pathLab) make(ctx context.Context) error {
	other, err := otherHost("192.0.2.1/24", "192.0.2.2/24")
	if err != nil {
		return err
	}
	for _, at := range []netip.AddrPort{pathLink(), pathDirect()} {
		if err := other.do(func() error { _, err := serveAt(at); return err }); err != nil {
			return err
		}
	}
	pod, address := simulatedPod(0)
	p.at = podstate.Net{Address: address, HostAddress: pathOwn(), Domain: domain}
	dirs := podstate.Dirs{State: filepath.Join(p.dir, "state"), Run: filepath.Join(p.dir, "run")}
	if err := dirs.Save(pod, p.at, clusterLinks(10)); err != nil {
		return err
	}
	if err := podnet.Up(ctx, dirs, pod.Metadata.UID, podnet.Hooks{Links: layFresh, Host: p.hostRules}); err != nil {
		return err
	}
	p.file = dirs.Namespace(pod.Metadata.UID)
	if p.laid, err = linker.PodPlan(p.at.Address, clusterLinks(10)); err != nil {
		return err
	}
	p.pod, err = enterSpace(p.file)
	return err
}

// hostRules lays the host's rules, as its agent does.
func (p *pathLab) hostRules(ctx context.Context) (ipv6 bool, err error) {
	plan, err := linker.HostPlan(podnet.HostConfig(linker.HostConfig{Address: pathOwn(), Members: []netip.Addr{pathOwn(), pathLink().Addr()}, Public: linker.PublicPorts(pathCluster(10), pathOwn())},
		[]podstate.Net{p.at}, nil, nil))
	if err != nil {
		return false, err
	}
	return false, linker.Apply(ctx, "", plan)
}

// pathCluster is a cluster of n services, of which the last, s0, is the backend's.
func pathCluster(n int) api.Directory {
	d := api.Directory{Hosts: []api.HostEntry{{Name: "h1", Address: pathOwn()}, {Name: "h2", Address: pathLink().Addr()}}}
	e := api.HostEndpoints{Host: "h2", Seq: 1}
	for i := range n {
		name := api.Name("s" + strconv.Itoa(i))
		d.Services = append(d.Services, api.ServiceEntry{Project: "bench", Name: name, Ports: []api.Port{{Name: "main", Port: pathPort, Protocol: api.TCP}}})
		e.Endpoints = append(e.Endpoints, api.Endpoint{Project: "bench", Service: name, Pod: name, Port: "main", Protocol: api.TCP, Ready: true,
			Address: netip.AddrPortFrom(pathLink().Addr(), pathLink().Port()+uint16(i))})
	}
	d.Endpoints = []api.HostEndpoints{e}
	return d
}

// clusterLinks gives the links of a pod that links one service of n.
func clusterLinks(n int) []api.LinkTarget {
	return pathCluster(n).Resolver("h1").Targets("bench", "app-0", []api.Link{{Service: "s0", LocalPort: pathPort, Protocol: api.TCP, Retarget: api.Drain}})
}

// everyLink gives the links of a pod that links n services, the one that leads to the backend last.
func everyLink(n int) []api.LinkTarget {
	out := make([]api.LinkTarget, n)
	for i := range out {
		to := netip.AddrPortFrom(pathLink().Addr(), pathLink().Port()+uint16(n-1-i))
		out[i] = api.LinkTarget{Service: api.Name("s" + strconv.Itoa(n-1-i)), Local: netip.AddrFrom4([4]byte{127, 1, byte(1 + i/250), byte(1 + i%250)}), Port: pathPort, Protocol: api.TCP,
			Retarget: api.Drain, Backends: []netip.AddrPort{to}}
	}
	return out
}

// lay changes the pod's links.
func (p *pathLab) lay(ctx context.Context, links []api.LinkTarget) error {
	next, err := linker.PodPlan(p.at.Address, links)
	if err != nil {
		return err
	}
	if err := linker.Update(ctx, p.file, p.laid, next); err != nil {
		return err
	}
	p.laid = next
	return nil
}

// proxyConfig is a userspace TCP proxy that has nothing else to do.
const proxyConfig = `global
    maxconn 1000
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
listen backend
    bind %s
    server backend %s
`

func (p *pathLab) startProxy(ctx context.Context) error {
	config := filepath.Join(p.dir, "haproxy.cfg")
	if err := os.WriteFile(config, fmt.Appendf(nil, proxyConfig, pathWays()[byProxy], pathDirect()), 0o600); err != nil {
		return err
	}
	p.proxy = exec.CommandContext(ctx, "haproxy", "-db", "-f", config)
	p.proxy.Stderr = os.Stderr
	p.proxy.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.pod.do(p.proxy.Start); err != nil { // in the pod, and by a thread that does not end, which Pdeathsig is about
		return fmt.Errorf("starting HAProxy, the peer: %w", err)
	}
	p.ending = func() {
		_ = p.proxy.Process.Kill()
		_ = p.proxy.Wait() // how it ends is not measured
	}
	err := story.Until(ctx, 10*time.Second, func() error {
		return p.pod.do(func() error { _, err := echo(pathWays()[byProxy]); return err })
	})
	if err != nil {
		p.ending()
	}
	return err
}

func (p *pathLab) measure(ctx context.Context) (pathResult, error) {
	r := pathResult{Ways: map[string]*pathSamples{byLink: {}, byDirect: {}, byProxy: {}}, Sizes: map[int]*pathSamples{}, All: &pathSamples{}, Beside: &pathSamples{}}
	for _, n := range pathSizes() {
		r.Sizes[n] = &pathSamples{}
	}
	for round := range p.runs*pathRounds + 1 {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		first := round == 0 // it warms caches
		if err := p.round(ctx, &r, first); err != nil {
			return r, err
		}
		if round > 0 && round%pathRounds == 0 {
			for _, way := range []string{byLink, byDirect, byProxy} {
				s := r.Ways[way]
				p.say("P5 run %d: %s: %.0f MiB/s, %.1f µs a connection", round/pathRounds, way, figures.Median(s.Rate[len(s.Rate)-pathRounds*pathTurns:]), figures.Median(s.Connect[len(s.Connect)-pathRounds*pathTurns:]))
			}
		}
	}
	return r, p.measureAll(ctx, &r)
}

// turn is one thing that takes turns with others.
type turn struct {
	samples *pathSamples
	to      netip.AddrPort
	before  func() error // nil for nothing
}

// round takes the ways, then the sizes of the cluster.
func (p *pathLab) round(ctx context.Context, r *pathResult, warm bool) error {
	var ways, sizes []turn
	for _, way := range []string{byLink, byDirect, byProxy} {
		ways = append(ways, turn{r.Ways[way], pathWays()[way], nil})
	}
	for _, n := range pathSizes() {
		links := clusterLinks(n) // resolved before, so that the processor is as warm for all
		sizes = append(sizes, turn{r.Sizes[n], pathWays()[byLink], func() error { return p.lay(ctx, links) }})
	}
	if err := p.takeTurns(ways, warm); err != nil {
		return err
	}
	if err := p.takeTurns(sizes, warm); err != nil || !warm {
		return err
	}
	for _, n := range pathSizes() {
		if err := errors.Join(p.lay(ctx, clusterLinks(n)), p.count(ctx, r.Sizes[n])); err != nil {
			return err
		}
	}
	return nil
}

// takeTurns gives each its samples, by short turns in an order that is turned round each time. Nothing is kept of a warming round.
func (p *pathLab) takeTurns(turns []turn, warm bool) error {
	tallies := make([]tally, len(turns))
	for n := range pathTurns {
		for i := range turns {
			if n%2 == 1 {
				i = len(turns) - 1 - i
			}
			if before := turns[i].before; before != nil {
				if err := before(); err != nil {
					return err
				}
			}
			if err := p.pod.do(func() error { return p.take(&tallies[i], turns[i].to) }); err != nil {
				return err
			}
		}
	}
	for i := range turns {
		if !warm {
			turns[i].samples.add(&tallies[i])
		}
	}
	return nil
}

// measureAll lets the pod link every service.
func (p *pathLab) measureAll(ctx context.Context, r *pathResult) error {
	sizes := pathSizes()
	links := everyLink(sizes[len(sizes)-1])
	if err := p.lay(ctx, links); err != nil {
		return err
	}
	last := netip.AddrPortFrom(links[len(links)-1].Local, pathPort)
	for i := range p.runs*pathRounds/2 + 1 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.takeTurns([]turn{{r.All, last, nil}, {r.Beside, pathDirect(), nil}}, i == 0); err != nil {
			return err
		}
	}
	return p.count(ctx, r.All)
}

// count counts the rules of the pod and of its host, as iptables-save prints them.
func (p *pathLab) count(ctx context.Context, s *pathSamples) error {
	for file, n := range map[string]*int{p.file: &s.Rules, "": &s.HostSize} {
		have, err := linker.Read(ctx, file)
		if err != nil {
			return err
		}
		*n = strings.Count(have.String(), "-A ")
	}
	return nil
}

// tally sums up turns.
type tally struct {
	rates      []float64
	connects   []float64
	connectCPU time.Duration
	bytes      uint64
	spent      time.Duration
}

// take connects some times and sends for a while.
func (p *pathLab) take(t *tally, to netip.AddrPort) error {
	before, err := p.cpu()
	if err != nil {
		return err
	}
	each := make([]time.Duration, pathConnects)
	for i := range each {
		if each[i], err = echo(to); err != nil {
			return err
		}
	}
	between, err := p.cpu()
	if err != nil {
		return err
	}
	bytes, took, err := pour(to, pathPour)
	if err != nil {
		return err
	}
	after, err := p.cpu()
	slices.Sort(each)
	t.connects = append(t.connects, float64(each[len(each)/2].Nanoseconds())/1e3)
	t.rates = append(t.rates, float64(bytes)/(1<<20)/took.Seconds())
	t.connectCPU, t.spent, t.bytes = t.connectCPU+between-before, t.spent+after-between, t.bytes+bytes
	return err
}

// add adds the samples of turns.
func (s *pathSamples) add(t *tally) {
	s.Connect, s.Rate = append(s.Connect, t.connects...), append(s.Rate, t.rates...)
	s.CPUEach = append(s.CPUEach, float64(t.connectCPU.Microseconds())/float64(pathConnects*len(t.connects)))
	s.CPU = append(s.CPU, t.spent.Seconds()*1000/(float64(t.bytes)/(1<<30)))
}

// cpu gives what this process, which is both ends, and the proxy have used.
func (p *pathLab) cpu() (time.Duration, error) {
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return 0, err
	}
	proxy, err := cpuOf(p.proxy.Process.Pid)
	return time.Duration(own.Utime.Nano()+own.Stime.Nano()) + proxy, err
}
