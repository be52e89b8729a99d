package client

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"sync"
	"time"

	"gearmesh.dev/api"
)

// errNotFull is why a stream is given up.
var errNotFull = errors.New("its stream does not start with a full patch")

// errElsewhere is why a stream is given up whose master does not lead any more.
var errElsewhere = errors.New("another master has taken the host's report")

// hostStream is the connection that a host's desired state comes by.
type hostStream struct {
	mu    sync.Mutex
	from  url.URL
	leave context.CancelCauseFunc // nil before the first one
}

// begin gives the context of a new connection.
func (s *hostStream) begin(ctx context.Context, from url.URL) (context.Context, context.CancelCauseFunc) {
	ctx, leave := context.WithCancelCause(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.from, s.leave = from, leave
	return ctx, leave
}

// follow gives the connection up when it is to another master than the one that leads. A master that hangs would otherwise be
// noticed by the silence of the stream alone, which in a large cluster may be long.
func (s *hostStream) follow(leader url.URL) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leave != nil && s.from != leader {
		s.leave(errElsewhere)
	}
}

// silences is how many of the silences that the master told of are taken for a dead connection.
const silences = 3

// Desired gives what a host should do and know: full patches, each the first of a connection, and
// patches on top of them. It ends when the context does or the caller stops.
//
// A connection that is lost, refused, or silent for Config.Silence (ErrSilent), or for three times as long as the master said that it may
// be, is given as an error with no patch; a caller that goes on gets the patches of the next connection, which is made after
// a back-off. All errors are tried again, with the next master where there are several.
func (c *Client) Desired(ctx context.Context, host api.Name) iter.Seq2[api.Patch, error] {
	return func(yield func(api.Patch, error) bool) {
		var wait backoff
		asked := 0 // since the last pause
		for ctx.Err() == nil {
			full := false
			server := c.servers.now()
			for p, err := range c.desiredOnce(ctx, host, server) {
				if ctx.Err() != nil {
					return
				}
				if err == nil && !full && !p.Full {
					p, err = api.Patch{}, &ConnectError{Server: c.Server(), Err: errNotFull}
				}
				if err != nil {
					asked++
					if !c.elsewhere(server, &ConnectError{Err: err}) || asked >= c.servers.count() {
						asked = 0
					}
				}
				if (err == nil || asked == 0) && !yield(p, err) { // while another one may be better, nothing is said
					return
				}
				if err != nil {
					break
				}
				full, asked = true, 0
				wait.reset()
			}
			if asked == 0 && !pause(ctx, min(wait.next(), c.longestWait())) { // all of them were asked
				return
			}
		}
	}
}

// desiredOnce gives the patches of one connection.
func (c *Client) desiredOnce(ctx context.Context, host api.Name, server url.URL) iter.Seq2[api.Patch, error] {
	req := request{method: http.MethodGet, path: []string{"v1", "hosts", string(host), "desired"}, idempotent: true, paced: true}
	return func(yield func(api.Patch, error) bool) {
		ctx, leave := c.stream.begin(ctx, server)
		defer leave(nil)
		silence := c.cfg.Silence
		for p, err := range decoded[api.Patch](ctx, c, req, func() time.Duration { return silence }) {
			if p.Every > 0 {
				silence = max(c.cfg.Silence, silences*min(p.Every.Std(), api.ReportEveryMost))
			}
			if !yield(p, err) {
				return
			}
		}
	}
}

// longestWait bounds the pauses of a host's stream: of several masters another one leads within seconds.
func (c *Client) longestWait() time.Duration {
	if c.servers.count() > 1 {
		return time.Second
	}
	return lastWait
}

// RenewCertificate gets a fresh certificate, in PEM, for the host whose certificate the Client
// uses. csr is a PKCS #10 request in PEM.
func (c *Client) RenewCertificate(ctx context.Context, host api.Name, csr string) (string, error) {
	var out struct {
		Certificate string `json:"certificate"`
	}
	req := request{method: http.MethodPost, path: []string{"v1", "hosts", string(host), "certificate"},
		body: api.CertificateRequest{CSR: csr}, idempotent: true}
	_, err := c.do(ctx, req, &out)
	return out.Certificate, err
}

// hostwork bounds what an agent is asked to do by hand: it looks at every rule and unit of its host.
const hostwork = time.Minute

// HostPlan tells what a host's agent would do now. Nothing is changed.
func (c *Client) HostPlan(ctx context.Context, host api.Name) (api.HostPlan, error) {
	var out api.HostPlan
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"v1", "hosts", string(host), "plan"}, idempotent: true, timeout: hostwork}, &out)
	return out, err
}

// RepairHost makes a host's agent assert everything anew. It may be repeated.
func (c *Client) RepairHost(ctx context.Context, host api.Name) (api.Repair, error) {
	var out api.Repair
	_, err := c.do(ctx, request{method: http.MethodPost, path: []string{"v1", "hosts", string(host), "repair"}, idempotent: true, timeout: hostwork}, &out)
	return out, err
}

// ForgetPod removes a pod from a host that the master does not know.
func (c *Client) ForgetPod(ctx context.Context, host api.Name, uid api.UID) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: []string{"v1", "hosts", string(host), "pods", string(uid)}, timeout: hostwork}, nil)
	return err
}

// PendingHosts lists the hosts that wait for approval.
func (c *Client) PendingHosts(ctx context.Context) (api.PendingList, error) {
	var out api.PendingList
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"v1", "pending"}, idempotent: true}, &out)
	return out, err
}

// JudgePending approves or rejects a host that waits. It may be repeated until the host has its identity.
func (c *Client) JudgePending(ctx context.Context, host api.Name, v api.Verdict) (api.PendingHost, error) {
	var out api.PendingHost
	_, err := c.do(ctx, request{method: http.MethodPost, path: []string{"v1", "pending", string(host)}, body: v, idempotent: true}, &out)
	return out, err
}

// Mesh tells where the keys of the mesh stand.
func (c *Client) Mesh(ctx context.Context) (api.MeshKeys, error) {
	var out api.MeshKeys
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"v1", "mesh"}, idempotent: true}, &out)
	return out, err
}

// RotateMesh begins a change of the mesh's key.
func (c *Client) RotateMesh(ctx context.Context) (api.MeshKeys, error) {
	var out api.MeshKeys
	_, err := c.do(ctx, request{method: http.MethodPost, path: []string{"v1", "mesh", "rotate"}}, &out)
	return out, err
}
