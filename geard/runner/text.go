package runner

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	tailLines   = 20  // lines of output that are kept to explain an end
	tailLineLen = 200 // bytes of each
)

// tail keeps the last lines of a container's output.
type tail struct {
	lines []string // escaped
	open  bool     // the last line has not ended yet
}

// add takes a piece of output: a line, or a part of one.
func (t *tail) add(text []byte) {
	line, ended := bytes.CutSuffix(text, []byte("\n"))
	if t.open {
		last := &t.lines[len(t.lines)-1]
		*last = oneLine(*last+string(line[:min(len(line), tailLineLen)]), tailLineLen)
	} else {
		t.lines = append(t.lines, oneLine(string(line[:min(len(line), 4*tailLineLen)]), tailLineLen))
	}
	if len(t.lines) > tailLines {
		t.lines = append(t.lines[:0], t.lines[1:]...)
	}
	t.open = !ended
}

// String gives the lines, the newest last.
func (t *tail) String() string { return strings.Join(t.lines, "\n") }

// plain leaves out what the engine's parts say only of each other.
func plain(message string) string {
	for _, noise := range []string{"Error response from daemon: ", "failed to create shim task: ", "OCI runtime create failed: ",
		"runc create failed: ", "unable to start container process: "} {
		message = strings.ReplaceAll(message, noise, "")
	}
	return strings.TrimSuffix(message, ": unknown")
}

// oneLine makes hostile text fit to be shown in one line of at most limit bytes: what is not
// printable (control characters, terminal sequences, bidi marks, bad UTF-8) is written as an escape.
func oneLine(s string, limit int) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		piece := s[i : i+n]
		if r == utf8.RuneError && n == 1 {
			piece = fmt.Sprintf(`\x%02x`, s[i])
		} else if !unicode.IsPrint(r) {
			piece = strings.Trim(fmt.Sprintf("%+q", r), "'")
		}
		if b.Len()+len(piece) > limit-len("…") {
			return b.String() + "…"
		}
		b.WriteString(piece)
		i += n
	}
	return b.String()
}
