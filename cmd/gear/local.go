package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"gearmesh.dev/api"
)

// agentSocket is where this host's agent serves root.
const agentSocket = "/run/gear/agent.sock"

// maxLocal bounds an answer of the agent.
const maxLocal = 16 << 20

// askLocal calls this host's own agent, which needs no master for it, and reads the answer into out, unless that is nil.
func askLocal(ctx context.Context, method, path string, out any) error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", agentSocket)
	}}}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		try := "systemctl status gear-agent"
		if os.Geteuid() != 0 {
			try = "the same as root"
		}
		return problem{what: "this host's agent does not answer", why: err.Error(), try: try, code: exitError, cause: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxLocal))
	if err != nil {
		return fmt.Errorf("reading the agent's answer: %w", err)
	}
	if resp.StatusCode >= 300 {
		var refused api.Error
		if json.Unmarshal(body, &refused) == nil && refused.Detail != "" {
			return &refused
		}
		return fmt.Errorf("asking this host's agent: %s", resp.Status)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("reading the agent's answer: %w", err)
	}
	return nil
}
