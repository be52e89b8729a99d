package realhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"strconv"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/api/frame"
	"gearmesh.dev/geard"
	"gearmesh.dev/geard/engine"
	"gearmesh.dev/geard/runner"
)

var _ geard.Inside = (*Host)(nil)

// running gives the engine's id of a container that runs.
func (h *Host) running(ctx context.Context, p api.Pod, container api.Name) (string, error) {
	c, err := h.engine.Inspect(ctx, runner.ContainerName(p.Metadata.Project, p.Metadata.Name, container))
	if errors.Is(err, engine.ErrNoContainer) || err == nil && !c.Running {
		return "", api.Errorf(api.CodeUnavailable, "container %s of pod %s does not run; gear why %s says more", container, p.Metadata.Name, p.Metadata.Name)
	}
	return c.ID, err
}

// Exec implements geard.Inside.
func (h *Host) Exec(ctx context.Context, p api.Pod, container api.Name, c geard.Command) (int, error) {
	id, err := h.running(ctx, p, container)
	if err != nil {
		return 0, err
	}
	x := engine.Command{Argv: c.Command, TTY: c.TTY, Size: engine.Size{Columns: c.Columns, Rows: c.Rows}, Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr}
	if c.Term != "" {
		x.Env = []string{"TERM=" + c.Term}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sizes := make(chan engine.Size)
	x.Resize = sizes
	done := make(chan struct{})
	go func() {
		defer close(done)
		passSizes(ctx, c.Resize, sizes)
	}()
	code, err := h.engine.ExecInteractive(ctx, id, x)
	cancel(nil)
	<-done
	return code, err
}

func passSizes(ctx context.Context, from <-chan frame.Size, to chan<- engine.Size) {
	for {
		select {
		case s := <-from:
			select {
			case to <- engine.Size{Columns: s.Columns, Rows: s.Rows}:
			case <-ctx.Done():
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// dialTime is how long a program in a pod may take to accept a connection.
const dialTime = 5 * time.Second

// Dial implements geard.Inside: 127.0.0.1 in the pod's namespace, where most programs listen, or else the pod's
// own address.
func (h *Host) Dial(ctx context.Context, p api.Pod, port uint16) (net.Conn, error) {
	n, err := h.dirs.LoadNet(p.Metadata.UID)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	var errs []error
	for _, host := range []string{"127.0.0.1", n.Address.String()} {
		conn, err := runner.DialIn(ctx, h.dirs.Namespace(p.Metadata.UID), net.JoinHostPort(host, strconv.Itoa(int(port))))
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("%w; %w", errs[0], errs[1])
}

// Files implements geard.Inside.
func (h *Host) Files(ctx context.Context, p api.Pod, container api.Name) (geard.Files, error) {
	id, err := h.running(ctx, p, container)
	return files{h.engine, id}, err
}

// files implements geard.Files.
type files struct {
	engine *engine.Engine
	id     string
}

func (f files) Stat(ctx context.Context, name string) (api.CopyAnswer, error) {
	s, err := f.engine.StatPath(ctx, f.id, name)
	answer := api.CopyAnswer{Name: path.Base(name), Exists: true, Directory: s.Directory}
	if err == nil && s.Link != "" {
		var target engine.PathStat
		target, err = f.engine.StatPath(ctx, f.id, s.Link)
		answer.Directory = target.Directory
		if errors.Is(err, engine.ErrNoPath) {
			return answer, nil
		}
	}
	if errors.Is(err, engine.ErrNoPath) {
		return api.CopyAnswer{Name: path.Base(name)}, nil
	}
	return answer, err
}

func (f files) Read(ctx context.Context, name string) (io.ReadCloser, error) {
	s, err := f.engine.StatPath(ctx, f.id, name)
	if err == nil && s.Link != "" { // a link that is named itself is followed
		name = s.Link
	}
	if err != nil {
		return nil, err
	}
	return f.engine.CopyOut(ctx, f.id, name)
}

func (f files) Write(ctx context.Context, dir string, archive io.Reader) error {
	return f.engine.CopyIn(ctx, f.id, dir, archive)
}
