// Package podnet makes a pod's network and takes it away: the namespace, its one interface, the
// route to it, and the links that the disk remembers. `gear-run net-up UID` and `net-down UID` are
// its commands, run by the pod's -net.service, so that a host powers on without an agent.
//
//	host                                        /run/netns/gear-UID
//	gear0 10.127.0.1   10.127.x.y ─▶ gvUID… ═══ eth0 10.127.x.y/32, default via 10.127.0.1
//	                                            lo   127.0.0.0/8, ::1
//
// Pods are routed, not bridged: all they send passes the host's rules, also between two pods of one host,
// and needs no sysctl of br_netfilter. net.ipv4.conf.*.route_localnet is on inside, because links on
// 127.0.0.1 need it, and never on the host (CVE-2020-8558). On a host with IPv6 the same is there once more, with the addresses that go with
// these (linker.IPv6): fd67:6561:7200::a7f:1 on gear0, and so on; on others a pod has no IPv6 but ::1.
//
// Up and Down may be repeated and may be cut short anywhere: Up makes what is missing, Down removes what is left.
package podnet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netns"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/oci"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/internal/failpoint"
)

// GatewayLink is the interface of the host that has the gateway's address.
const GatewayLink = "gear0"

// VethPattern matches the host's ends of all pods' veths, as iptables writes it.
const VethPattern = "gv+"

// Hooks lay netfilter rules; whoever calls Up joins them with package linker.
type Hooks struct {
	// Links lays a pod's links in the namespace behind the file netns. Up calls it last, so a namespace
	// whose Up has returned has its links. fresh says that the namespace was made just now and has no rules at all.
	Links func(ctx context.Context, netns string, fresh bool, pod netip.Addr, links []api.LinkTarget) error
	// Say gets a sentence about what was not as it should be and was made good; nil when nobody listens.
	Say func(text string)
	// Host lays the host's own rules. Up calls it only when gear0 is not there yet, which is once after
	// power-on; later the agent looks after them. It tells whether the host has IPv6 for pods.
	Host func(ctx context.Context) (ipv6 bool, err error)
}

// VethName gives the name of the host's end of a pod's veth: at most 15 bytes (IFNAMSIZ).
func VethName(uid api.UID) string { return "gv" + string(uid[:12]) }

// Up makes the network of a pod from what is on disk.
func Up(ctx context.Context, dirs podstate.Dirs, uid api.UID, hooks Hooks) error {
	if err := uid.Validate(); err != nil {
		return fmt.Errorf("pod network: %w", err)
	}
	net, links, err := load(dirs, uid, hooks.say)
	if err != nil {
		return err
	}
	if err := ensureGateway(ctx, dirs, hooks.Host); err != nil {
		return err
	}
	if err := adoptNamespace(dirs, uid); err != nil {
		return err
	}
	file := dirs.Namespace(uid)
	fresh, err := ensureNamespace(file)
	if err != nil {
		return err
	}
	if err := failpoint.Hit(failpoint.NetAfterNamespace); err != nil {
		return err
	}
	if fresh { // the agent's sockets may keep an older namespace for some seconds, and the kernel its veth
		if err := removeVeth(VethName(uid)); err != nil {
			return err
		}
	}
	if err := ensureVeth(VethName(uid), net.Address, file); err != nil {
		return err
	}
	if err := within(file, func() error { return configure(net.Address) }); err != nil {
		return err
	}
	if err := EnsureIPv6(dirs, uid, net.Address); err != nil {
		return err
	}
	if err := failpoint.Hit(failpoint.NetAfterVeth); err != nil {
		return err
	}
	if err := hooks.Links(ctx, file, fresh, net.Address, links); err != nil {
		return fmt.Errorf("laying the links of pod %s: %w", uid, err)
	}
	return nil
}

func (h Hooks) say(format string, args ...any) {
	if h.Say != nil {
		h.Say(fmt.Sprintf(format, args...))
	}
}

// load reads what Up needs. A pod whose links were never resolved has none. Links that cannot be read do not keep a pod
// down that may need them for one thing of many, and a host has to come up with no agent: they are resolved again.
func load(dirs podstate.Dirs, uid api.UID, say func(string, ...any)) (podstate.Net, []api.LinkTarget, error) {
	net, err := dirs.LoadNet(uid)
	if err != nil {
		return net, nil, err
	}
	if !podstate.Prefix().Contains(net.Address) || net.Address == podstate.Gateway() {
		return net, nil, fmt.Errorf("pod %s has the address %s; want one of %s but %s", uid, net.Address, podstate.Prefix(), podstate.Gateway())
	}
	links, err := dirs.LoadLinks(uid)
	if err == nil || errors.Is(err, os.ErrNotExist) {
		return net, links, nil
	}
	again, findErr := dirs.FindLinks(uid)
	say("the links of pod %s cannot be read (%v); %d are resolved again from what this host was last told", uid, err, len(again))
	if findErr != nil {
		say("connections to links of pod %s are refused until its agent is back: %v", uid, findErr)
	}
	if err := dirs.SaveLinks(uid, again); err != nil {
		say("%v", err) // a full disk must not keep the pod down
	}
	return net, again, nil
}

// Down removes the network of a pod: its veth, its namespace, and the records that would let
// containers into it.
func Down(dirs podstate.Dirs, uid api.UID) error {
	if err := uid.Validate(); err != nil {
		return fmt.Errorf("pod network: %w", err)
	}
	file := dirs.Namespace(uid)
	return errors.Join(
		removeVeth(VethName(uid)),
		failpoint.Hit(failpoint.NetDownAfterVeth),
		removeNamespace(file),
		removeRecords(filepath.Dir(dirs.Record("x")), file),
	)
}

// removeRecords removes the records of containers that name the namespace.
func removeRecords(dir, netnsFile string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing container records: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			continue // gone meanwhile
		}
		if r, _ := oci.ParseRecord(data); r.Namespace != netnsFile {
			continue // another pod's
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("removing container records: %w", err)
		}
	}
	return nil
}

// open opens a namespace by its file.
func open(file string) (netns.NsHandle, error) {
	ns, err := netns.GetFromPath(file)
	if err != nil {
		return ns, fmt.Errorf("opening network namespace %q: %w", file, err)
	}
	return ns, nil
}
