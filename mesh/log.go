package mesh

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// lineLog gives the lines of serf and memberlist, such as "[WARN] serf: ...", to slog: errors and
// warnings as warnings, the rest for debugging. Anyone can make memberlist log a line per
// datagram, so there are at most logBurst lines of a level in logEvery.
type lineLog struct {
	log *slog.Logger

	mu     sync.Mutex
	warns  bucket
	debugs bucket
}

const (
	logBurst = 20
	logEvery = 10 * time.Second
)

// bucket counts the lines of the current period.
type bucket struct {
	start  time.Time
	lines  int
	hidden int
}

// Write takes one line.
func (l *lineLog) Write(line []byte) (int, error) {
	level, text := parseLine(string(bytes.TrimSpace(line)))
	if !l.log.Enabled(context.Background(), level) {
		return len(line), nil
	}
	if hidden, ok := l.pass(level, time.Now()); ok && hidden > 0 {
		l.log.Log(context.Background(), level, text, "hidden", hidden)
	} else if ok {
		l.log.Log(context.Background(), level, text)
	}
	return len(line), nil
}

// pass tells whether a line may be logged, and how many of its level were not since the last.
func (l *lineLog) pass(level slog.Level, now time.Time) (hidden int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := &l.debugs
	if level == slog.LevelWarn {
		b = &l.warns
	}
	if now.Sub(b.start) >= logEvery {
		hidden = b.hidden
		*b = bucket{start: now}
	}
	if b.lines >= logBurst {
		b.hidden++
		return 0, false
	}
	b.lines++
	return hidden, true
}

func parseLine(line string) (slog.Level, string) {
	level := slog.LevelDebug
	if rest, ok := strings.CutPrefix(line, "["); ok {
		if name, text, ok := strings.Cut(rest, "] "); ok {
			line = text
			if name == "WARN" || name == "ERR" || name == "ERROR" {
				level = slog.LevelWarn
			}
		}
	}
	return level, line
}
