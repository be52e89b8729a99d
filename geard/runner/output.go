package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"gearmesh.dev/geard/engine"
)

// position is how far a container's output has been passed on: n entries of the time at have been, and
// all before.
type position struct {
	at time.Time
	n  int
}

// advance gives the position after an entry.
func (p position) advance(t time.Time) position {
	switch {
	case t.After(p.at):
		return position{t, 1}
	case t.Equal(p.at):
		return position{t, p.n + 1}
	}
	return p // stdout and stderr are stamped apart: an entry may be a moment older than the last
}

// output passes a container's output on. It may be interrupted anywhere, by the end of dockerd or of this
// process, and goes on where it was: no line is lost, and at most the one that was being written
// comes twice.
type output struct {
	logs           watcher
	id             string
	stdout, stderr io.Writer
	file           string // keeps the position
	log            *slog.Logger

	holes int // in the output, that this process has met

	mu   sync.Mutex
	pos  position
	tail tail
}

// load takes the position of the runner before us, if it was about the same container.
func (o *output) load() {
	var id string
	var sec, nsec int64
	var n int
	data, err := os.ReadFile(o.file)
	if err != nil {
		return
	}
	if _, err := fmt.Sscanf(string(data), "%s %d %d %d\n", &id, &sec, &nsec, &n); err == nil && id == o.id {
		o.pos = position{time.Unix(sec, nsec), n}
	}
}

// follow passes output on until ctx is done. The stream also ends when dockerd does, sometimes
// without an error, so it is opened again and again.
func (o *output) follow(ctx context.Context) {
	for ctx.Err() == nil {
		err := o.read(ctx, true)
		if err != nil && ctx.Err() == nil && !errors.Is(err, engine.ErrDown) && !errors.Is(err, engine.ErrNoContainer) {
			o.log.Warn("the output could not be read; trying again", "error", err)
		}
		sleep(ctx, 500*time.Millisecond)
	}
}

// rest passes on what is left of the output of a container that has ended.
func (o *output) rest(ctx context.Context) {
	if err := o.read(ctx, false); err != nil {
		o.log.Warn("the end of the output could not be read", "error", err)
	}
}

// read passes output on from the position.
func (o *output) read(ctx context.Context, follow bool) error {
	file, err := openPosition(o.file)
	if err != nil {
		o.log.Warn("after a restart of gear-run, output will come twice", "error", err)
	} else {
		defer file.Close()
	}
	from := o.pos
	skip := from.n
	return o.logs.Logs(ctx, o.id, from.at, follow, func(e engine.Entry) error {
		if skip > 0 && e.Time.Equal(from.at) {
			skip--
			return nil
		}
		if skip > 0 {
			o.lost(from, e)
			skip = 0
		}
		if err := o.pass(e); err != nil {
			return err
		}
		o.save(file)
		return nil
	})
}

// lost says that output is missing. The engine gives what it has from the last entry that was passed on;
// when that one is not there any more, it has thrown away that one and perhaps more: it keeps 2 MiB of each
// container, and nobody read for longer than that lasted. The engine does not number what it
// throws away, so what can be counted are the holes, and the time that each spans.
func (o *output) lost(from position, next engine.Entry) {
	if next.Time.Before(from.at) {
		return // stamped apart; see position.advance
	}
	o.holes++
	o.log.Warn("output was lost: the container wrote more than the engine keeps while nobody could read it",
		"after", from.at.UTC().Format(time.RFC3339Nano), "before", next.Time.UTC().Format(time.RFC3339Nano), "holes", o.holes)
}

// pass writes an entry. When the journal does not take it, the position stays, and it is written again
// later: until then the engine keeps it.
func (o *output) pass(e engine.Entry) error {
	to := o.stdout
	if e.Stderr {
		to = o.stderr
	}
	if _, err := to.Write(e.Text); err != nil {
		return fmt.Errorf("passing output on: %w", err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tail.add(e.Text)
	o.pos = o.pos.advance(e.Time)
	return nil
}

// last gives the last lines.
func (o *output) last() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tail.String()
}

func openPosition(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("keeping the position in the output: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("keeping the position in the output: %w", err)
	}
	return f, nil
}

// save overwrites the position in place: it is one short line of a fixed length on a tmpfs, so it cannot be
// cut short, and it is written for each line of output. Without it output would come twice, which is
// better than not at all.
func (o *output) save(f *os.File) {
	if f == nil {
		return
	}
	line := fmt.Appendf(nil, "%-64s %020d %09d %09d\n", o.id, o.pos.at.Unix(), o.pos.at.Nanosecond(), o.pos.n)
	_, _ = f.WriteAt(line, 0)
}

// sleep waits, or until ctx is done.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
