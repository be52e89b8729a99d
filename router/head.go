package router

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// unknownBackend answers for host names that no service has.
const unknownBackend = "gear_unknown"

// The reasons behind the lines of headText:
//
//   - hard-stop-after and mworker-max-reloads bound how many old workers, kept alive by long connections,
//     stand beside the new one.
//   - fd-hard-limit and not maxconn: HAProxy then makes maxconn fit the files that it may open itself, which nobody else
//     knows: the unit's LimitNOFILE is lowered where the host, such as a container, allows less. With maxconn it
//     would warn at each start, and run out of files under load instead of making new connections wait.
//   - Without strict-limits, a host that allows too few open files still gets a HAProxy and not none: haproxy -c does
//     not notice, so the check would not protect from it.
//   - redispatch 1 sends every retry to another server, without the pause before a retry on the same one; with
//     the short connect timeout, a dead server costs some of the request's time but not the request. After two
//     failed connections it gets no more requests until a check has connected again.
//   - roundrobin, since leastconn would prefer dead servers: they never have connections.
//   - empty-response retries when a server died with the request in hand. Only GET, HEAD and OPTIONS may be sent twice
//     (RFC 9110, section 9.2.2), so it is turned off for every other method.
//   - Readiness comes from the agents. The checks are rare, but without them HAProxy does not observe connections;
//     only a server that was seen to fail is checked each second.
//   - fhdr, unlike hdr, does not split at commas; host_only cuts the port and lowers the case.
//   - A request's own X-Forwarded-For and Proxy headers are not believed; "Proxy" would become HTTP_PROXY in CGI programs.
const headText = `# Written by gear, do not edit: it is written anew at each change.
global
    description %[1]s
    fd-hard-limit %[2]d
    no strict-limits
    stats socket %[3]s mode 600 level admin expose-fd listeners
    stats timeout 1m
    hard-stop-after 1h
    mworker-max-reloads 50
    spread-checks 20
    log stderr format raw daemon notice
%[4]s
defaults
    mode http
    log global
    option httplog
    option dontlognull
    option dontlog-normal
    option log-separate-errors
    option redispatch 1
    retries 6
    retry-on conn-failure empty-response
    balance roundrobin
    default-server check inter 30s fastinter 1s downinter 1s rise 1 fall 2 observe layer4 error-limit 2 on-error mark-down
    timeout connect 1s
    timeout client 60s
    timeout server 60s
    timeout check 1s
    timeout queue 5s
    timeout tunnel 1h
    timeout client-fin 10s
    timeout server-fin 10s
    timeout http-request 10s
    timeout http-keep-alive 15s
    http-error status 503 content-type "text/plain; charset=utf-8" string "gear: no pod of this service is ready\n"

frontend gear_http
%[5]s    http-request disable-l7-retry unless METH_GET or METH_OPTIONS
    http-request set-header X-Forwarded-For %%[src]
    http-request set-header X-Forwarded-Proto http
    http-request del-header Proxy
    use_backend %%[req.fhdr(host),host_only,rtrim(.),map_str(%[6]s)]
    default_backend ` + unknownBackend + `

backend ` + unknownBackend + `
    http-request return status 404 content-type "text/plain; charset=utf-8" string "gear: no service has this host name\n"
`

// head prints the sections that do not depend on the directory, and their id.
func head(s Settings) (text, id string) {
	sum := sha256.Sum256([]byte(headWith(s, "-")))
	id = "gear-" + hex.EncodeToString(sum[:8])
	return headWith(s, id), id
}

func headWith(s Settings, id string) string {
	var binds strings.Builder
	for _, b := range s.Bind {
		fmt.Fprintf(&binds, "    bind %s%s\n", b, v6only(b.Addr().Is6()))
	}
	return fmt.Sprintf(headText, id, openFiles(s.MaxConn), s.Socket, workers(s), binds.String(), s.MapFile())
}

// workers says as whom, and where, HAProxy's workers run.
func workers(s Settings) string {
	var b strings.Builder
	if s.User != "" {
		fmt.Fprintf(&b, "    user %s\n", s.User)
	}
	if s.Chroot != "" {
		fmt.Fprintf(&b, "    chroot %s\n", s.Chroot)
	}
	return b.String()
}

// openFiles gives the files that HAProxy needs for n connections: two each, and some for its listeners, sockets and
// threads.
func openFiles(n int) int { return 2*n + 64 }

// v6only keeps [::]:80 from claiming IPv4 too, which would clash with a line for 0.0.0.0:80.
func v6only(is6 bool) string {
	if is6 {
		return " v6only"
	}
	return ""
}
