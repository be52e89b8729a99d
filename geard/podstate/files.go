package podstate

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"gearmesh.dev/api"
)

// Prefix is the pods' network, the same on every host and never routed between them.
func Prefix() netip.Prefix { return netip.MustParsePrefix("10.127.0.0/16") }

// Gateway is the host's own address in the pods' network: their way out and their DNS server.
func Gateway() netip.Addr { return netip.AddrFrom4([4]byte{10, 127, 0, 1}) }

// mounted gives the files that a pod's containers see in /etc. Only names, addresses and our own
// text reach them. They never change: a link's address is the pod's own affair, not its target's.
func mounted(p api.Pod, n Net, links []api.LinkTarget) map[string]string {
	out := map[string]string{
		"hosts":       hosts(p, n, links),
		"hostname":    string(p.Metadata.Name) + "\n",
		"resolv.conf": resolvConf(p, n),
	}
	if p.Singleton() {
		out[fencingFile] = strconv.FormatInt(p.Spec.Fence, 10) + "\n"
	}
	return out
}

const fencingFile = "gear-fencing-token"

// Mounted names the files of a pod that its containers see in /etc.
func Mounted(p api.Pod) []string {
	out := []string{"hosts", "hostname", "resolv.conf"}
	if p.Singleton() {
		out = append(out, fencingFile)
	}
	return out
}

// hosts gives each link its loopback address. localhost is IPv4 alone: links are, and a
// client that tries ::1 first would be refused there first.
func hosts(p api.Pod, n Net, links []api.LinkTarget) string {
	var b strings.Builder
	fmt.Fprintf(&b, "127.0.0.1\tlocalhost\n::1\tip6-localhost ip6-loopback\n%s\t%s\n", n.Address, p.Metadata.Name)
	seen := map[api.Name]bool{}
	for _, l := range links {
		if !seen[l.Called()] {
			fmt.Fprintf(&b, "%s\t%s\n", l.Local, l.Called())
		}
		seen[l.Called()] = true
	}
	return b.String()
}

// resolvConf asks the host's own DNS server, first for names of the pod's project (resolv.conf(5)).
func resolvConf(p api.Pod, n Net) string {
	return fmt.Sprintf("nameserver %s\nsearch %s.%s\noptions timeout:2 attempts:2\n", Gateway(), p.Metadata.Project, n.Domain)
}
