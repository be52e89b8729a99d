package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"time"

	"gearmesh.dev/api"
)

// errStopped says that whoever reads the directories wants no more.
var errStopped = errors.New("no more directories are wanted")

// retryTime is the pause before the agent is asked again.
const retryTime = time.Second

// Follow reads the agent's stream of directories from its unix socket, GET /v1/directory, and connects again
// for ever, until ctx ends. While there is no agent, nothing comes.
func Follow(ctx context.Context, socket string, log *slog.Logger) iter.Seq[api.Directory] {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	client := &http.Client{Transport: transport}
	return func(yield func(api.Directory) bool) {
		defer transport.CloseIdleConnections()
		for ctx.Err() == nil {
			err := stream(ctx, client, yield)
			if errors.Is(err, errStopped) || ctx.Err() != nil {
				return
			}
			log.Warn("router: no directory from the agent; what is known is kept", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(retryTime):
			}
		}
	}
}

// stream passes on one connection's directories. Unknown fields are let pass: during an upgrade
// the agent may be newer than the router.
func stream(ctx context.Context, client *http.Client, yield func(api.Directory) bool) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/v1/directory", nil)
	if err != nil {
		return fmt.Errorf("asking the agent: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("asking the agent: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("asking the agent for the directory: %s", resp.Status)
	}
	dec := json.NewDecoder(resp.Body)
	for {
		var d api.Directory
		if err := dec.Decode(&d); err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the agent closed the stream")
			}
			return fmt.Errorf("reading the directory: %w", err)
		}
		if !yield(d) {
			return errStopped
		}
	}
}
