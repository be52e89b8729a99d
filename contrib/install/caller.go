package install

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/pki"
)

// caller asks a master few things, once each.
type caller struct {
	base   string
	token  string // of a person; empty for nobody
	client *http.Client
}

// newCaller trusts a CA alone.
func newCaller(master string, ca *x509.Certificate, token string) *caller {
	secure := pki.ClientConfig(nil, ca)
	secure.ServerName = pki.MasterName // a host of the same CA must not pass for the master
	return &caller{base: "https://" + master, token: token, client: &http.Client{
		Timeout:       requestTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{TLSClientConfig: secure, DisableKeepAlives: true},
	}}
}

// call sends body as JSON, when there is one, and reads the answer into out, when it is wanted.
func (c *caller) call(ctx context.Context, method, path string, body, out any) error {
	var payload io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
		payload = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, payload)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return fmt.Errorf("asking the master: %w", err)
	}
	defer resp.Body.Close()
	return answer(resp, out)
}

func answer(resp *http.Response, out any) error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("reading the master's answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		problem := &api.Error{}
		if json.Unmarshal(data, problem) != nil || problem.Code == "" {
			return fmt.Errorf("the master answered %s", resp.Status)
		}
		return problem
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("reading the master's answer: %w", err)
	}
	return nil
}

// askAgent calls this host's agent over its socket. The caller closes the body.
func (i *installer) askAgent(ctx context.Context, method, path string) (*http.Response, error) {
	client := http.Client{Timeout: requestTime, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", i.path("/run/gear/agent.sock"))
		}}}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, nil)
	if err != nil {
		return nil, err
	}
	return client.Do(req)
}

// hears tells whether the agent's directory, which comes from the master, knows a host.
func (i *installer) hears(ctx context.Context, host api.Name) error {
	resp, err := i.askAgent(ctx, http.MethodGet, "/v1/directory")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for {
		line, err := lines.ReadBytes('\n')
		var d api.Directory
		if len(bytes.TrimSpace(line)) > 0 && json.Unmarshal(line, &d) == nil &&
			slices.ContainsFunc(d.Hosts, func(h api.HostEntry) bool { return h.Name == host }) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the agent's directory does not know this host yet: %w", err)
		}
	}
}
