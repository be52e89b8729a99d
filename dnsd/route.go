package dnsd

import (
	"errors"
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

// ParseRoutes reads a list such as "corp.example=10.0.0.53,corp.example=[2001:db8::1]:5353". A domain has
// each server that it is listed with. Own is the cluster's domain: what is in it is asked nowhere else.
func ParseRoutes(list string, own api.Hostname) (out []Route, err error) {
	for _, word := range words(list) {
		domain, server, ok := strings.Cut(word, "=")
		if !ok {
			return nil, fmt.Errorf("%q: want DOMAIN=ADDRESS, such as corp.example=192.0.2.53", word)
		}
		r, err := parseRoute(domain, server, own)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", word, err)
		}
		i := slices.IndexFunc(out, func(o Route) bool { return o.Domain == r.Domain })
		if i < 0 {
			out = append(out, r)
			continue
		}
		out[i].Servers = append(out[i].Servers, r.Servers...)
	}
	return out, nil
}

func parseRoute(domain, server string, own api.Hostname) (Route, error) {
	r := Route{Domain: api.Hostname(strings.TrimSuffix(strings.ToLower(domain), "."))}
	if err := r.Domain.Validate(); err != nil {
		return r, fmt.Errorf("the domain: %w", err)
	}
	if (Route{Domain: own}).covers(string(r.Domain) + ".") {
		return r, fmt.Errorf("names in %s are the cluster's own, and no other server is asked for them", own)
	}
	at, err := parseServer(server)
	r.Servers = []netip.AddrPort{at}
	return r, err
}

// ParseServers reads addresses of DNS servers, separated by commas.
func ParseServers(list string) (out []netip.AddrPort, err error) {
	for _, word := range words(list) {
		at, err := parseServer(word)
		if err != nil {
			return nil, err
		}
		if slices.Contains(out, at) {
			return nil, fmt.Errorf("%s is there twice", at)
		}
		out = append(out, at)
	}
	return out, nil
}

func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

// parseServer reads the address of a DNS server; its port is 53 when left out.
func parseServer(s string) (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(s)
	if a, plain := netip.ParseAddr(s); plain == nil {
		at, err = netip.AddrPortFrom(a, 53), nil
	}
	switch {
	case err != nil || at.Port() == 0:
		return at, fmt.Errorf("%q is no address of a server: want one such as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53", s)
	case at.Addr().IsUnspecified() || at.Addr().IsMulticast():
		return at, fmt.Errorf("%q is no address of one server", s)
	}
	return at, nil
}

// NotOwn gives an error when a server in the list is this one itself, which would be a loop.
func NotOwn(servers, listen []netip.AddrPort) error {
	own := ownAddresses(listen)
	for _, s := range servers {
		if own[s.Addr().Unmap().WithZone("")] && slices.ContainsFunc(listen, func(l netip.AddrPort) bool { return l.Port() == s.Port() }) {
			return fmt.Errorf("%s: %w", s, errItself)
		}
	}
	return nil
}

var errItself = errors.New("that is this server itself")
