package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/dnsd"
	"gearmesh.dev/geard"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/internal/atomicfile"
	"gearmesh.dev/internal/loop"
)

// nameFlags are what an operator says about this host's DNS server, as it was written.
type nameFlags struct {
	forward, split, secondaries, limits string
}

func (n *nameFlags) add(f *flag.FlagSet) {
	f.StringVar(&n.forward, "dns-forward", "", "DNS servers that are asked for names that are not the cluster's, as ADDRESS[:PORT],...; those of /etc/resolv.conf when left out")
	f.StringVar(&n.split, "dns-split", "", "domains that have DNS servers of their own, as DOMAIN=ADDRESS[:PORT],...; a domain may be there with several servers")
	f.StringVar(&n.secondaries, "dns-secondary", "", "DNS servers that may transfer the cluster's zone and are told of changes, as ADDRESS[:PORT],...; their port is where they take NOTIFY")
	f.StringVar(&n.limits, "dns-limits", "", "bounds of the DNS server, as NAME=NUMBER,...: stranger-rate (answers a second to one network that is not the cluster's), pod-rate (queries a second of one pod), tcp (connections), forwards (questions that wait for other servers), cached (their answers), sockets")
}

// config reads the flags.
func (n nameFlags) config(domain api.Hostname, listen []netip.AddrPort) (dnsd.Config, error) {
	c := dnsd.Config{Listen: listen, Upstreams: dnsd.ResolvConf("/etc/resolv.conf", listen)}
	forward, err := dnsd.ParseServers(n.forward)
	if err == nil {
		err = dnsd.NotOwn(forward, listen)
	}
	if err != nil {
		return c, fmt.Errorf("--dns-forward: %w", err)
	}
	if len(forward) > 0 {
		c.Upstreams = func() []netip.AddrPort { return forward }
	}
	if c.Split, err = dnsd.ParseRoutes(n.split, domain); err != nil {
		return c, fmt.Errorf("--dns-split: %w", err)
	}
	for _, r := range c.Split {
		if err := dnsd.NotOwn(r.Servers, listen); err != nil {
			return c, fmt.Errorf("--dns-split: %s: %w", r.Domain, err)
		}
	}
	if c.Secondaries, err = dnsd.ParseServers(n.secondaries); err != nil {
		return c, fmt.Errorf("--dns-secondary: %w", err)
	}
	if c.Limits, err = dnsd.ParseLimits(n.limits); err != nil {
		return c, fmt.Errorf("--dns-limits: %w", err)
	}
	return c, nil
}

// nameServer binds the DNS server's addresses. Its zone comes with setNames.
func (d *agentDaemon) nameServer(flags nameFlags) error {
	c, err := flags.config(d.id.Domain, []netip.AddrPort{netip.AddrPortFrom(d.id.Address, dnsPort), netip.AddrPortFrom(podstate.Gateway(), dnsPort)})
	if err != nil {
		return err
	}
	d.names, d.serials = dnsd.NewTable(podstate.Prefix()), loadSerials(filepath.Join(d.dir, serialFile))
	c.Source, c.Logger = d.names, d.log
	// The server is made before the agent, so that bad flags are found before anything begins, and serves after it.
	c.Tell = func(ctx context.Context, pod netip.Addr, name string, addrs []netip.Addr, ttl time.Duration) error {
		return d.agent.Told(ctx, pod, name, addrs, ttl)
	}
	d.dns, err = dnsd.New(c)
	return err
}

// followNames keeps the DNS server's table as the agent's directory.
func (d *agentDaemon) followNames(ctx context.Context) error {
	for {
		changed := d.agent.Changed()
		d.setNames()
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			loop.Sleep(ctx, 5*time.Millisecond) // a burst becomes one new table
		}
	}
}

func (d *agentDaemon) setNames() {
	dir := d.agent.Directory()
	d.setMasters(dir.Masters)
	serial, err := d.serials.next(time.Now())
	if err != nil {
		d.log.Warn("the serial of the DNS zone is not kept: after a restart secondaries may miss changes", "err", err)
	}
	zone := dnsd.NewZone(dir, dnsd.Options{Domain: d.id.Domain, Host: d.id.Name, PodNet: podstate.Prefix(), Serial: serial,
		Down: func(h api.Name) bool { return d.mesh.Down(h) && !dir.Detached(h) }})
	d.names.SetZone(zone, dir.Hosts)
	pods, links := map[netip.Addr]dnsd.Pod{}, dir.Resolver(d.id.Name)
	for addr, p := range d.agent.Pods() {
		pod := dnsd.NewPod(d.id.Domain, p.Metadata.Project, links.Targets(p.Metadata.Project, p.Metadata.Name, p.Spec.Template.Links))
		pod.Follows = geard.Follows(p.Spec.Egress)
		pods[addr] = pod
	}
	d.names.SetPods(pods)
}

// serialFile holds a serial of the zone that no answer has had yet.
const serialFile = "dns.serial"

// serialStep is how far ahead of the last serial the file is: it is written once in so many seconds or changes. A
// restart goes no further ahead, so that the serials of hosts stay close and a secondary may follow any of them.
const serialStep = 60

// serials makes the zone's serials: the time in seconds, but higher than every one before, also when
// the clock was set back while the host was off (RFC 1982: a secondary takes no lower one).
type serials struct {
	file        string
	last, bound uint32 // the last one, and one that is in the file
}

func loadSerials(file string) *serials {
	s := &serials{file: file}
	if text, err := os.ReadFile(file); err == nil && len(text) == 4 { // without it the clock alone counts
		s.last = binary.BigEndian.Uint32(text)
	}
	return s
}

// next gives a serial. It is good for use also with an error, which tells that it is not on disk.
func (s *serials) next(now time.Time) (uint32, error) {
	s.last = max(uint32(now.Unix()), s.last+1)
	if s.last < s.bound {
		return s.last, nil
	}
	bound := binary.BigEndian.AppendUint32(nil, s.last+serialStep)
	if err := atomicfile.Write(s.file, bound, 0o644); err != nil {
		return s.last, err
	}
	s.bound = s.last + serialStep
	return s.last, nil
}
