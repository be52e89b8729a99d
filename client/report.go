package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"gearmesh.dev/api"
)

// A host's reports: whole when they say something new, else by the mark that the master gave the last one.

// reportTimeout is how long a report may take: the next one is newer, and a host's lease is short.
const reportTimeout = 5 * time.Second

// reported is the last report that a master has taken, and what it answered.
type reported struct {
	mu    sync.Mutex
	by    url.URL      // the master
	mark  api.Name     // "" when it gave none
	every api.Duration // how long it lets the host wait
	body  []byte       // without the revision, which is of no interest alone
}

// Report tells the master the state of a host, and gives which singletons of the host may run on, and how long the next report may wait. Each
// master is asked once at most: the next report is newer.
func (c *Client) Report(ctx context.Context, r api.HostReport) (api.ReportAnswer, error) {
	said := r
	said.Revision = 0
	body, err := json.Marshal(said)
	if err != nil {
		return api.ReportAnswer{}, fmt.Errorf("writing the report: %w", err)
	}
	c.reported.mu.Lock()
	defer c.reported.mu.Unlock()
	l := &c.reported
	out, err := c.heartbeat(ctx, r.Host, body)
	if errors.Is(err, errSendWhole) {
		out, err = c.put(ctx, r, "v1", "hosts", string(r.Host), "report")
		if err == nil {
			l.by, l.mark, l.body = c.servers.now(), out.Mark, body
		}
	}
	if err == nil {
		l.every = out.Every
		c.stream.follow(c.servers.now())
	}
	return out, err
}

// errSendWhole is why there is no heartbeat.
var errSendWhole = errors.New("the report is not the one that the master has")

// heartbeat stands for a report that says the same as the last one, if it does and the master still has that.
func (c *Client) heartbeat(ctx context.Context, host api.Name, body []byte) (api.ReportAnswer, error) {
	l := &c.reported
	if l.mark == "" || l.by != c.servers.now() || !bytes.Equal(l.body, body) {
		return api.ReportAnswer{}, errSendWhole
	}
	out, err := c.put(ctx, nil, "v1", "hosts", string(host), "heartbeat", string(l.mark))
	var e *api.Error
	if errors.As(err, &e) && (e.Code == api.CodeConflict || e.Code == api.CodeNotFound) { // an older master has no such path
		l.mark = ""
		return out, errSendWhole
	}
	if out.Every == 0 { // nothing new
		out.Every = l.every
	}
	return out, err
}

// put sends a report or what stands for it.
func (c *Client) put(ctx context.Context, body any, path ...string) (api.ReportAnswer, error) {
	var out api.ReportAnswer
	_, err := c.do(ctx, request{method: http.MethodPut, path: path, body: body, idempotent: true, timeout: c.reportTime(), attempts: 1}, &out)
	return out, err
}

// reportTime bounds one report. Of several masters one that does not answer is soon given up.
func (c *Client) reportTime() time.Duration {
	if c.servers.count() > 1 {
		return min(headerTime, c.cfg.Timeout)
	}
	return min(reportTimeout, c.cfg.Timeout)
}
