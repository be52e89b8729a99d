package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"gearmesh.dev/api"
)

// request is one call of the API.
type request struct {
	method     string
	path       []string // its parts, unescaped
	query      url.Values
	body       any // sent as JSON; nil for none
	idempotent bool
	paced      bool          // the answer is a stream whose silences the master may make longer
	once       bool          // gets a key by which the master knows it again, so that it may be sent again
	timeout    time.Duration // of one attempt; Config.Timeout when 0
	attempts   int           // Config.Attempts when 0
}

// do carries out a call, decodes its answer into out, unless out is nil, and gives the answer's header.
func (c *Client) do(ctx context.Context, req request, out any) (http.Header, error) {
	var body []byte
	if req.body != nil {
		var err error
		if body, err = json.Marshal(req.body); err != nil {
			return nil, fmt.Errorf("writing the request: %w", err)
		}
	}
	key := ""
	if req.once {
		key = rand.Text()
	}
	var wait backoff
	for n, asked := 1, 1; ; n++ {
		server := c.servers.now()
		header, err := c.attempt(ctx, req, key, body, out)
		if err == nil {
			return header, nil
		}
		least, yes := again(err, req.idempotent || req.once)
		if other := c.elsewhere(server, err); other && yes && asked < c.servers.count() && ctx.Err() == nil {
			asked++ // each of them once, without a pause
			n--
			continue
		}
		asked = 1
		if !yes || n >= orDefault(req.attempts, c.cfg.Attempts) || ctx.Err() != nil {
			return nil, plain(err)
		}
		if !pause(ctx, max(least, wait.next())) {
			return nil, fmt.Errorf("%w (%w)", plain(err), ctx.Err())
		}
	}
}

// attempt carries out a call once.
func (c *Client) attempt(ctx context.Context, req request, key string, body []byte, out any) (http.Header, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, orDefault(req.timeout, c.cfg.Timeout), errNoAnswer)
	defer cancel()
	res, err := c.send(ctx, req, key, body)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if out == nil || res.StatusCode == http.StatusNoContent {
		_, err = io.Copy(io.Discard, io.LimitReader(res.Body, maxError)) // lets the connection be used again
	} else {
		err = c.decode(ctx, res, out)
	}
	return res.Header, err
}

func (c *Client) decode(ctx context.Context, res *http.Response, out any) error {
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return c.connectError(ctx, &answerError{"reading its answer", true, err})
	case len(data) > maxAnswer:
		return c.connectError(ctx, &answerError{what: fmt.Sprintf("its answer is over %d bytes", maxAnswer)})
	}
	if err := json.Unmarshal(data, out); err != nil {
		return c.connectError(ctx, &answerError{"its answer cannot be read", false, err})
	}
	return nil
}

// send sends a request and gives the answer when it is a success. The caller closes its body.
func (c *Client) send(ctx context.Context, req request, key string, body []byte) (*http.Response, error) {
	path, err := escaped(req.path)
	if err != nil {
		return nil, err
	}
	base := c.servers.now()
	u := base.JoinPath(path...)
	u.RawQuery = req.query.Encode()
	ctx, begun := c.begin(ctx, req)
	defer begun()
	r, err := http.NewRequestWithContext(ctx, req.method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	r.Header.Set("Accept", "application/json, application/x-ndjson, application/problem+json")
	r.Header.Set("User-Agent", "gearmesh")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if req.paced {
		r.Header.Set(api.PacedHeader, "1")
	}
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	if c.cfg.Token != "" {
		r.Header.Set("Authorization", "Bearer "+c.cfg.Token)
	}
	res, err := c.http.Do(r)
	if err != nil {
		var of *url.Error // repeats the method and address
		if errors.As(err, &of) {
			err = of.Err
		}
		return nil, c.connectError(ctx, err)
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		defer res.Body.Close()
		return nil, c.problem(res)
	}
	return res, nil
}

// escaped makes the parts of a path safe. Those that would lead to another path are refused.
func escaped(parts []string) ([]string, error) {
	out := make([]string, len(parts))
	for i, p := range parts {
		if p == "" || p == "." || p == ".." {
			return nil, api.Errorf(api.CodeBadRequest, "%q is no name; write lower-case letters, digits and hyphens", p)
		}
		out[i] = url.PathEscape(p)
	}
	return out, nil
}

// Version asks for the master's version.
func (c *Client) Version(ctx context.Context) (string, error) {
	var out struct {
		Version string `json:"version"`
	}
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"v1", "version"}, idempotent: true}, &out)
	return out.Version, err
}

// Why asks for everything that explains a pod.
func (c *Client) Why(ctx context.Context, project, pod api.Name) (api.Why, error) {
	var out api.Why
	path := []string{"v1", "projects", string(project), "pods", string(pod), "why"}
	_, err := c.do(ctx, request{method: http.MethodGet, path: path, idempotent: true}, &out)
	return out, err
}

// CreateToken makes a token that lets one host join, and become a further master when it is for that.
func (c *Client) CreateToken(ctx context.Context, req api.TokenRequest) (api.JoinToken, error) {
	var out api.JoinToken
	_, err := c.do(ctx, request{method: http.MethodPost, path: []string{"v1", "tokens"}, body: req}, &out)
	return out, err
}

// Masters lists the masters.
func (c *Client) Masters(ctx context.Context) (api.MasterList, error) {
	var out api.MasterList
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"v1", "masters"}, idempotent: true}, &out)
	return out, err
}

// Backup writes everything of the cluster to w, encrypted for an age key. What w got counts only without an error.
func (c *Client) Backup(ctx context.Context, w io.Writer, recipient string) error {
	body, err := json.Marshal(api.BackupRequest{Recipient: recipient})
	if err != nil {
		return fmt.Errorf("writing the request: %w", err)
	}
	res, err := c.send(ctx, request{method: http.MethodPost, path: []string{"v1", "backup"}}, "", body)
	if err != nil {
		return plain(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(w, res.Body); err != nil {
		return c.connectError(ctx, &answerError{"reading the backup", true, err})
	}
	return nil
}

// RemoveMaster removes a master, dead or alive: by its name, or by its ADDRESS:PORT for other masters when it
// has never started.
func (c *Client) RemoveMaster(ctx context.Context, which string) error {
	req := request{method: http.MethodDelete, path: []string{"v1", "masters", which}}
	if strings.Contains(which, ":") {
		req.path, req.query = req.path[:2], url.Values{"peer": {which}}
	}
	_, err := c.do(ctx, req, nil)
	return err
}

// Join asks for a host's identity. The token works once, so an attempt that may have reached the
// master is not repeated.
func (c *Client) Join(ctx context.Context, req api.JoinRequest) (api.Identity, error) {
	var out api.Identity
	_, err := c.do(ctx, request{method: http.MethodPost, path: []string{"v1", "join"}, body: req}, &out)
	return out, err
}
