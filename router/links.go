package router

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"gearmesh.dev/api"
)

// The reasons behind the lines of linkHeadText that headText does not explain:
//
//   - One frontend takes the connections to all ports, and the map says which backend a port has: a new target needs no reload.
//     A port that has none is refused.
//   - transparent lets it bind before the pods' gateway has its address; without privileges that is IP_FREEBIND.
//   - No hard-stop-after: a connection that is open when HAProxy is reloaded stays with the old worker for as long as it lasts.
//   - leastconn would prefer dead servers, since they never have connections. After two failed connections, each of which went on to
//     another server, a server gets no more until a check has connected again. Healthy servers are hardly ever checked: a check is a connection
//     without a word, and databases complain of those.
//   - A link has no time limit of its own: an idle connection lasts until a side has gone without a goodbye, which keepalive finds out.
const linkHeadText = `# Written by gear, do not edit: it is written anew at each change.
global
    description %[1]s
    fd-hard-limit %[2]d
    no strict-limits
    stats socket %[3]s mode 600 level admin expose-fd listeners
    stats timeout 1m
    mworker-max-reloads 50
    spread-checks 20
    log stderr format raw daemon notice
%[4]s
defaults
    mode tcp
    log global
    option tcplog
    option dontlognull
    option dontlog-normal
    option redispatch 1
    retries 6
    balance leastconn
    default-server check inter 10m fastinter 1s downinter 1s rise 1 fall 2 observe layer4 error-limit 2 on-error mark-down
    option clitcpka
    clitcpka-idle 1m
    clitcpka-intvl 10s
    clitcpka-cnt 6
    option srvtcpka
    srvtcpka-idle 1m
    srvtcpka-intvl 10s
    srvtcpka-cnt 6
    timeout connect 1s
    timeout client 20d
    timeout server 20d
    timeout check 1s
    timeout queue 5s

frontend gear_links
    bind %[5]s-%[6]d transparent
    tcp-request connection reject unless { dst_port,map_str(%[7]s) -m found }
    use_backend %%[dst_port,map_str(%[7]s)]
`

// RenderLinks makes the configuration of a host's balancer, for settings whose Bind is one address with the first port, and whose LastPort is the last.
// It never fails: what does not validate, or clashes, is left out and listed in Skipped.
func RenderLinks(links []api.BalancedLink, s Settings) Config {
	s = s.Default()
	c := Config{MapFile: s.MapFile()}
	taken := map[uint16]bool{}
	for _, l := range slices.SortedFunc(slices.Values(links), func(a, b api.BalancedLink) int { return cmp.Compare(a.Port, b.Port) }) {
		if err := checkLink(l, s); err != nil || taken[l.Port] {
			c.Skipped = append(c.Skipped, fmt.Sprintf("link to %q of project %q at port %d: %v, or the port is there twice", l.Service, l.Project, l.Port, err))
			continue
		}
		taken[l.Port] = true
		c.Backends = append(c.Backends, Backend{ID: linkID(l), Slots: linkSlots(l, s)})
		c.Hosts = append(c.Hosts, Host{Name: api.Hostname(strconv.Itoa(int(l.Port))), Backend: linkID(l)})
	}
	slices.SortFunc(c.Backends, func(a, b Backend) int { return compareIDs(a.ID, b.ID) })
	c.Backends = append(c.Backends, spareBackends(s.Spares, s.MinSlots)...)
	c.Head, c.HeadID = linkHead(s)
	return c
}

// linkID names the backend of a target. The port tells those apart that differ in their policies alone.
func linkID(l api.BalancedLink) string {
	return fmt.Sprintf("%s.%d", backendID(l.Project, l.Service, l.PortName), l.Port)
}

func linkSlots(l api.BalancedLink, s Settings) []netip.AddrPort {
	ends := slices.Compact(slices.SortedFunc(slices.Values(l.Backends), netip.AddrPort.Compare))
	slots := make([]netip.AddrPort, slotCount(len(ends), s.MinSlots))
	copy(slots, ends)
	return slots
}

func checkLink(l api.BalancedLink, s Settings) error {
	if err := validNames(l.Project, l.Service, l.PortName); err != nil {
		return err
	}
	if first := s.Bind[0].Port(); l.Port < first || l.Port > s.LastPort {
		return fmt.Errorf("port %d: %d to %d is needed", l.Port, first, s.LastPort)
	}
	for _, b := range l.Backends {
		if !b.IsValid() || b.Port() == 0 || b.Addr().Zone() != "" || b.Addr().IsUnspecified() || b.Addr().IsMulticast() {
			return fmt.Errorf("backend %q: not an address and port", b)
		}
	}
	return nil
}

// linkHead prints the sections that do not depend on the links, and their id.
func linkHead(s Settings) (text, id string) {
	sum := sha256.Sum256([]byte(linkHeadWith(s, "-")))
	id = "gear-" + hex.EncodeToString(sum[:8])
	return linkHeadWith(s, id), id
}

func linkHeadWith(s Settings, id string) string {
	listeners := int(s.LastPort) - int(s.Bind[0].Port()) + 1
	return fmt.Sprintf(linkHeadText, id, openFiles(s.MaxConn)+listeners, s.Socket, workers(s), s.Bind[0], s.LastPort, s.MapFile())
}
