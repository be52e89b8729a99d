package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
)

// Command is a command to run in a container for somebody who watches it.
type Command struct {
	Argv []string
	Env  []string // KEY=value, on top of the container's own
	TTY  bool     // the streams are a terminal; then there is no Stderr
	// Size is the terminal's at the start, Resize tells of others; closed or nil for none.
	Size   Size
	Resize <-chan Size
	// Stdin is closed when the command has ended, which must end a Read of it; nil for an empty one.
	Stdin          io.ReadCloser
	Stdout, Stderr io.Writer
}

// Size is that of a terminal, in characters.
type Size struct{ Columns, Rows uint16 }

// console gives the size as the engine takes it for the start, nil for none. Engines before API 1.42 leave it
// out: there the terminal has no size until resize has set it.
func (s Size) console() *[2]uint {
	if s == (Size{}) {
		return nil
	}
	return &[2]uint{uint(s.Rows), uint(s.Columns)}
}

// ExecInteractive runs a command and gives its exit code. Output is passed on as it comes and as it
// is. When ctx ends first, the command is told so by SIGHUP, as a terminal does that is closed.
func (e *Engine) ExecInteractive(ctx context.Context, id string, c Command) (int, error) {
	if c.Stdin != nil {
		defer c.Stdin.Close()
	}
	opts := container.ExecOptions{Cmd: c.Argv, Env: c.Env, Tty: c.TTY, AttachStdin: c.Stdin != nil, AttachStdout: true, AttachStderr: !c.TTY, ConsoleSize: c.Size.console()}
	made, err := e.api.ContainerExecCreate(ctx, id, opts)
	if err != nil {
		return 0, explainContainer(err, "running %q in container %q", c.Argv[0], short(id))
	}
	conn, err := e.api.ContainerExecAttach(ctx, made.ID, container.ExecAttachOptions{Tty: c.TTY, ConsoleSize: c.Size.console()})
	if err != nil {
		return 0, explain(err, "running %q in container %q", c.Argv[0], short(id))
	}
	err = e.attend(ctx, made.ID, conn, c)
	if ctx.Err() != nil {
		e.hangUp(context.WithoutCancel(ctx), made.ID)
		return 0, ctx.Err()
	}
	if err != nil {
		e.hangUp(ctx, made.ID)
		return 0, explain(err, "running %q in container %q", c.Argv[0], short(id))
	}
	code, err := e.execCode(ctx, made.ID)
	return code, explain(err, "running %q in container %q", c.Argv[0], short(id))
}

// attend passes the streams of a command on until its output ends or ctx does.
func (e *Engine) attend(ctx context.Context, exec string, conn types.HijackedResponse, c Command) error {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	defer conn.Close()
	stop := context.AfterFunc(ctx, conn.Close)
	defer stop()
	if c.Stdin != nil {
		work.Go(func() {
			_, _ = io.Copy(conn.Conn, c.Stdin) // a command that reads no more needs no input
			_ = conn.CloseWrite()
		})
		defer c.Stdin.Close()
	}
	if c.TTY {
		work.Go(func() { e.resize(ctx, exec, c) })
		_, err := io.Copy(c.Stdout, conn.Reader)
		return err
	}
	_, err := stdcopy.StdCopy(c.Stdout, c.Stderr, conn.Reader)
	return err
}

// resize keeps the size of a command's terminal. The engine refuses it until the command runs.
func (e *Engine) resize(ctx context.Context, exec string, c Command) {
	size, open := c.Size, true
	for tries := 0; open && ctx.Err() == nil; {
		var again <-chan time.Time
		if size != (Size{}) {
			err := e.api.ContainerExecResize(ctx, exec, container.ResizeOptions{Width: uint(size.Columns), Height: uint(size.Rows)})
			if tries++; err != nil && tries < 50 {
				again = time.After(20 * time.Millisecond)
			}
		}
		select {
		case size, open = <-c.Resize:
			tries = 0
		case <-again:
		case <-ctx.Done():
		}
	}
}

// execCode waits for the end of a command whose output has ended: it may have closed it, or the engine
// may not know yet.
func (e *Engine) execCode(ctx context.Context, exec string) (int, error) {
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		state, err := e.api.ContainerExecInspect(ctx, exec)
		if err != nil || !state.Running {
			return state.ExitCode, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			e.hangUp(context.WithoutCancel(ctx), exec)
			return 0, ctx.Err()
		}
	}
}

// hangUp tells a command that nobody is there any more. The engine has no call for it, but knows its pid.
func (e *Engine) hangUp(ctx context.Context, exec string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	state, err := e.api.ContainerExecInspect(ctx, exec)
	if err == nil && state.Running && state.Pid > 1 {
		_ = syscall.Kill(state.Pid, syscall.SIGHUP)
	}
}

// PathStat is what a path in a container is.
type PathStat struct {
	Name      string // last element
	Directory bool   // of a link: not what it leads to
	Link      string // target of a symbolic link, else empty
}

// ErrNoPath is a path that is not in the container.
var ErrNoPath = errors.New("no such file or directory")

// StatPath looks at a path in a container; the error is ErrNoPath when there is none.
func (e *Engine) StatPath(ctx context.Context, id, path string) (PathStat, error) {
	s, err := e.api.ContainerStatPath(ctx, id, path)
	return PathStat{s.Name, s.Mode.IsDir(), s.LinkTarget}, explainPath(err, "looking at %q in container %q", path, short(id))
}

// CopyOut gives a path of a container as a tar archive, whose names begin with the path's last element.
func (e *Engine) CopyOut(ctx context.Context, id, path string) (io.ReadCloser, error) {
	out, _, err := e.api.CopyFromContainer(ctx, id, path)
	return out, explainPath(err, "reading %q in container %q", path, short(id))
}

// CopyIn unpacks a tar archive into a directory of a container, as the archive's owners.
func (e *Engine) CopyIn(ctx context.Context, id, dir string, tar io.Reader) error {
	err := e.api.CopyToContainer(ctx, id, dir, tar, container.CopyToContainerOptions{})
	return explainPath(err, "writing to %q in container %q", dir, short(id))
}

func explainPath(err error, format string, args ...any) error {
	if err != nil && errdefs.IsNotFound(err) {
		return fmt.Errorf(format+": %w", append(args, ErrNoPath)...)
	}
	return explain(err, format, args...)
}
