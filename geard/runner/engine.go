package runner

import (
	"context"
	"time"

	"gearmesh.dev/geard/engine"
)

// Engine is what a runner needs of the container engine; *engine.Engine has it. Errors wrap
// engine.ErrDown and engine.ErrNoContainer where they apply.
type Engine interface {
	maker
	watcher
	stopper
}

type maker interface {
	Inspect(ctx context.Context, idOrName string) (engine.Container, error)
	Create(ctx context.Context, s engine.Spec) (id string, err error)
	Start(ctx context.Context, id string) error
}

type watcher interface {
	Wait(ctx context.Context, id string) (exitCode int, err error)
	Logs(ctx context.Context, id string, since time.Time, follow bool, each func(engine.Entry) error) error
	Exec(ctx context.Context, id string, argv []string) (exitCode int, output string, err error)
}

type stopper interface {
	Stop(ctx context.Context, id string) error
	Remove(ctx context.Context, id string) error
	Ping(ctx context.Context) error
}

var _ Engine = (*engine.Engine)(nil)
