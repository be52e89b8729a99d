// Package journal reads the systemd journal through journalctl -o json.
//
// sd-journal needs cgo, which Gearmesh's static binaries do without; journalctl is on every host
// that has a journal, follows rotation, and its JSON form is documented in systemd's
// JOURNAL_EXPORT_FORMATS.
package journal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"os/exec"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Query chooses entries.
type Query struct {
	Match  []string      // FIELD=value, all must hold, of one field any; "+" stands between alternatives
	Tail   int           // at most the last n; All for all
	Since  time.Duration // not older than; 0 for any age
	From   time.Time     // not older than; zero for any age
	After  string        // the cursor of an entry (its field __CURSOR): only those after it; wins over From
	Follow bool          // go on with new entries until the context ends
}

// All as a Query's Tail means every entry.
const All = -1

// Entry is one entry of the journal.
type Entry struct {
	Time   time.Time
	Text   string // the message, with control characters escaped
	Fields map[string]string
}

// maxLine bounds an entry in its JSON form; journald itself splits messages at 48 KiB.
const maxLine = 4 << 20

// Read streams the entries of a query, oldest first. It ends with the first error, if any.
func Read(ctx context.Context, q Query) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		cmd := exec.CommandContext(ctx, "journalctl", args(q)...)
		cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin"}
		var complaint bytes.Buffer
		cmd.Stderr = &complaint
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			yield(Entry{}, fmt.Errorf("reading the journal: %w", err))
			return
		}
		defer func() {
			cancel()
			_ = cmd.Wait() // it was killed: its status tells nothing
		}()
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, maxLine)
		for lines.Scan() {
			e, err := Parse(lines.Bytes())
			if err != nil {
				err = fmt.Errorf("reading the journal: %w", err)
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
		err = lines.Err()
		if err == nil && ctx.Err() == nil {
			err = cmd.Wait() // it has ended by itself
		}
		// Without entries some versions end with status 1 and say nothing.
		if err != nil && ctx.Err() == nil && complaint.Len() > 0 {
			yield(Entry{}, fmt.Errorf("reading the journal: %w: %s", err, Escape(strings.TrimSpace(complaint.String()))))
		}
	}
}

func args(q Query) []string {
	a := []string{"--output=json", "--all", "--quiet", "--no-pager"}
	if q.Tail >= 0 {
		a = append(a, "--lines="+strconv.Itoa(q.Tail))
	} else {
		a = append(a, "--lines=all")
	}
	if q.Since > 0 {
		a = append(a, "--since=-"+strconv.FormatInt(int64(q.Since/time.Second)+1, 10)+"s")
	}
	switch {
	case q.After != "":
		a = append(a, "--after-cursor="+q.After)
	case !q.From.IsZero():
		a = append(a, "--since=@"+strconv.FormatInt(q.From.Unix(), 10))
	}
	if q.Follow {
		a = append(a, "--follow")
	}
	return append(append(a, "--"), q.Match...)
}

// Parse reads one entry in journalctl's JSON form. A message that is not UTF-8 comes as a list of
// byte values, a field that stands twice as a list of strings.
func Parse(line []byte) (Entry, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(line, &raw); err != nil {
		return Entry{}, fmt.Errorf("entry %.80q: %w", line, err)
	}
	e := Entry{Fields: make(map[string]string, len(raw))}
	for k, v := range raw {
		e.Fields[k] = text(v)
	}
	usec, err := strconv.ParseInt(e.Fields["__REALTIME_TIMESTAMP"], 10, 64)
	if err != nil {
		return Entry{}, fmt.Errorf("entry %.80q has no time: %w", line, err)
	}
	e.Time = time.UnixMicro(usec)
	e.Text = Escape(e.Fields["MESSAGE"])
	return e, nil
}

func text(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) == nil {
		return s
	}
	var numbers []int
	if json.Unmarshal(v, &numbers) == nil {
		b := make([]byte, len(numbers))
		for i, n := range numbers {
			b[i] = byte(n)
		}
		return string(b)
	}
	var list []string
	if json.Unmarshal(v, &list) == nil && len(list) > 0 {
		return list[0]
	}
	return ""
}

// Escape makes a text safe for a terminal: control characters, bidirectional controls and bad
// UTF-8 become visible escapes (\x1b, \u202e); tabs stay.
func Escape(s string) string {
	clean := func(r rune) bool { return r == '\t' || unicode.IsPrint(r) && r != unicode.ReplacementChar }
	if strings.IndexFunc(s, func(r rune) bool { return !clean(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case n == 1 && r == unicode.ReplacementChar || r < 0x80 && !clean(r):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !clean(r) && r != unicode.ReplacementChar:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
		i += n
	}
	return b.String()
}
