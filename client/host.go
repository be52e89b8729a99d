package client

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"time"

	"gearmesh.dev/api"
)

// reportTimeout is how long a report may take: the next one is newer, and the lease is 8 s.
const reportTimeout = 5 * time.Second

// errNotFull is why a stream is given up.
var errNotFull = errors.New("its stream does not start with a full patch")

// Desired gives what a host should do and know: full patches, each the first of a connection, and
// patches on top of them. It ends when the context does or the caller stops.
//
// A connection that is lost, refused, or silent for Config.Silence (ErrSilent) is given as an error
// with no patch; a caller that goes on gets the patches of the next connection, which is made after
// a back-off. All errors are tried again, with the next master where there are several.
func (c *Client) Desired(ctx context.Context, host api.Name) iter.Seq2[api.Patch, error] {
	req := request{method: http.MethodGet, path: []string{"v1", "hosts", string(host), "desired"}, idempotent: true}
	return func(yield func(api.Patch, error) bool) {
		var wait backoff
		asked := 0 // since the last pause
		for ctx.Err() == nil {
			full := false
			server := c.servers.now()
			for p, err := range decoded[api.Patch](ctx, c, req, c.cfg.Silence) {
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

// longestWait bounds the pauses of a host's stream: of several masters another one leads within seconds.
func (c *Client) longestWait() time.Duration {
	if c.servers.count() > 1 {
		return time.Second
	}
	return lastWait
}

// reportTime bounds one report. Of several masters one that does not answer is soon given up.
func (c *Client) reportTime() time.Duration {
	if c.servers.count() > 1 {
		return min(headerTime, c.cfg.Timeout)
	}
	return min(reportTimeout, c.cfg.Timeout)
}

// Report tells the master the state of a host. Each master is asked once at most: the next report is newer.
func (c *Client) Report(ctx context.Context, r api.HostReport) error {
	path := []string{"v1", "hosts", string(r.Host), "report"}
	_, err := c.do(ctx, request{method: http.MethodPut, path: path, body: r, idempotent: true, timeout: c.reportTime(), attempts: 1}, nil)
	return err
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
