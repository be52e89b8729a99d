package engine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/docker/docker/api/types/container"
)

// Entry is one piece of output: a line with its newline, or a part of a line longer than 16 KiB.
type Entry struct {
	Time   time.Time // when the engine took it
	Stderr bool
	Text   []byte // valid until the next entry
}

// maxFrame bounds one frame of the engine's stream. The engine cuts output into 16 KiB; more than
// this means that the stream is not one.
const maxFrame = 1 << 20

// Logs passes the container's output to each, from since (inclusive; zero: from the start), and
// with follow until the container ends or ctx is done. It returns nil at the end of the output.
func (e *Engine) Logs(ctx context.Context, id string, since time.Time, follow bool, each func(Entry) error) error {
	opts := container.LogsOptions{ShowStdout: true, ShowStderr: true, Timestamps: true, Follow: follow}
	if !since.IsZero() {
		opts.Since = fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond())
	}
	stream, err := e.api.ContainerLogs(ctx, id, opts)
	if err != nil {
		return explainContainer(err, "reading the output of container %q", id)
	}
	defer stream.Close()
	return explain(readFrames(stream, each), "reading the output of container %q", id)
}

// readFrames takes the engine's multiplexed stream apart: 1 byte stream (1 stdout, 2 stderr), 3 bytes
// zero, 4 bytes length, then "TIMESTAMP text". Nil at a clean end.
func readFrames(r io.Reader, each func(Entry) error) error {
	in := bufio.NewReaderSize(r, 4<<10)
	var head [8]byte
	var buf []byte
	for {
		if _, err := io.ReadFull(in, head[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		n := binary.BigEndian.Uint32(head[4:])
		if n > maxFrame || head[0] > 2 {
			return fmt.Errorf("the engine sent a frame of type %d and %d bytes; want type 1 or 2 and at most %d bytes", head[0], n, maxFrame)
		}
		if uint32(cap(buf)) < n {
			buf = make([]byte, n)
		}
		buf = buf[:n]
		if _, err := io.ReadFull(in, buf); err != nil {
			return err
		}
		if err := each(entry(buf, head[0] == 2)); err != nil {
			return err
		}
	}
}

// entry cuts the timestamp off a frame. A frame without one is passed on whole.
func entry(frame []byte, stderr bool) Entry {
	stamp, text, ok := bytes.Cut(frame, []byte(" "))
	t, err := time.Parse(time.RFC3339Nano, string(stamp))
	if !ok || err != nil {
		return Entry{Stderr: stderr, Text: frame}
	}
	return Entry{Time: t, Stderr: stderr, Text: text}
}

// maxExecOutput bounds what is kept of a command's output.
const maxExecOutput = 4 << 10

// Exec runs a command in a container and gives its exit code and the start of its output.
// When ctx ends first, the command may go on: the engine has no way to end it.
func (e *Engine) Exec(ctx context.Context, id string, argv []string) (int, string, error) {
	made, err := e.api.ContainerExecCreate(ctx, id, container.ExecOptions{Cmd: argv, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return 0, "", explainContainer(err, "running %q in container %q", argv[0], id)
	}
	conn, err := e.api.ContainerExecAttach(ctx, made.ID, container.ExecAttachOptions{})
	if err != nil {
		return 0, "", explain(err, "running %q in container %q", argv[0], id)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, conn.Close)
	defer stop()
	var out bytes.Buffer
	err = readFrames(conn.Reader, func(f Entry) error { keepStart(&out, f.Text); return nil })
	if ctx.Err() != nil {
		return 0, out.String(), fmt.Errorf("running %q in container %q: %w", argv[0], id, ctx.Err())
	}
	if err != nil {
		return 0, out.String(), explain(err, "running %q in container %q", argv[0], id)
	}
	state, err := e.api.ContainerExecInspect(ctx, made.ID)
	if err == nil && state.Running {
		err = fmt.Errorf("it still runs after its output ended; exit status unknown (pid %d)", state.Pid)
	}
	return state.ExitCode, out.String(), explain(err, "running %q in container %q", argv[0], id)
}

func keepStart(out *bytes.Buffer, text []byte) {
	if room := maxExecOutput - out.Len(); room > 0 {
		out.Write(text[:min(room, len(text))])
	}
}
