package engine

import (
	"context"
	"fmt"

	"github.com/docker/docker/client"
	"go.opentelemetry.io/otel/trace/noop"
)

// Socket is where dockerd listens unless told otherwise.
const Socket = "/run/docker.sock"

// RuntimeName is the name under which dockerd has our OCI runtime registered ("runtimes" in daemon.json).
const RuntimeName = "gear"

// Engine is a client of one container engine. It may be used from several goroutines.
type Engine struct {
	api *client.Client
}

// New makes a client of the engine behind a unix socket. It does not connect yet: the first call
// does, and agrees on the version of the API.
func New(socket string) (*Engine, error) {
	api, err := client.NewClientWithOpts(
		client.WithHost("unix://"+socket),
		client.WithAPIVersionNegotiation(),
		// Without this the library looks for a global tracer on every call.
		client.WithTraceProvider(noop.NewTracerProvider()),
	)
	if err != nil {
		return nil, fmt.Errorf("container engine at %q: %w", socket, err)
	}
	return &Engine{api: api}, nil
}

// Close gives up idle connections.
func (e *Engine) Close() error { return e.api.Close() }

// Ping asks whether the engine answers; the error is ErrDown when it does not.
func (e *Engine) Ping(ctx context.Context) error {
	_, err := e.api.Ping(ctx)
	return explain(err, "asking the container engine for a sign of life")
}
