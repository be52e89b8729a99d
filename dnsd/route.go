package dnsd

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"gearmesh.dev/api"
)

// Route says which servers are asked for the names of a domain.
type Route struct {
	Domain  api.Hostname     // such as corp.example, or 10.in-addr.arpa
	Servers []netip.AddrPort // tried in this order, those that gave no answer lately last
}

// covers tells whether a name, in lower case and with a final dot, is in the domain.
func (r Route) covers(name string) bool {
	rest, ok := strings.CutSuffix(name, string(r.Domain)+".")
	return ok && (rest == "" || strings.HasSuffix(rest, "."))
}

// ParseUpstreams reads a list such as "192.0.2.53,corp.example=10.0.0.53,corp.example=[2001:db8::1]:5353": servers
// for all names, and for those of a domain.
func ParseUpstreams(list string) (all []netip.AddrPort, split []Route, err error) {
	for _, word := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		domain, server, ok := strings.Cut(word, "=")
		if !ok {
			domain, server = "", word
		}
		at, err := ParseServer(server)
		if err != nil {
			return nil, nil, fmt.Errorf("%q: %w", word, err)
		}
		if !ok {
			all = append(all, at)
			continue
		}
		name := api.Hostname(strings.TrimSuffix(strings.ToLower(domain), "."))
		if err := name.Validate(); err != nil {
			return nil, nil, fmt.Errorf("%q: the domain: %w", word, err)
		}
		i := slices.IndexFunc(split, func(r Route) bool { return r.Domain == name })
		if i < 0 {
			i, split = len(split), append(split, Route{Domain: name})
		}
		split[i].Servers = append(split[i].Servers, at)
	}
	return all, split, nil
}

// ParseServers reads addresses of DNS servers, separated by commas.
func ParseServers(list string) ([]netip.AddrPort, error) {
	all, split, err := ParseUpstreams(list)
	if err == nil && len(split) > 0 {
		err = fmt.Errorf("%q: want addresses alone", list)
	}
	return all, err
}

// ParseServer reads the address of a DNS server; its port is 53 when left out.
func ParseServer(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 53), nil
	}
	at, err := netip.ParseAddrPort(s)
	if err != nil || at.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("%q is no address of a server: want one such as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53", s)
	}
	return at, nil
}
