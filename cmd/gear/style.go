package main

import (
	"fmt"
	"hash/fnv"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// paint colours text when its stream is a terminal. Colour never stands alone: a symbol or a word
// says the same.
type paint struct{ on bool }

func (p paint) with(code, s string) string {
	if !p.on || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p paint) red(s string) string    { return p.with("31", s) }
func (p paint) green(s string) string  { return p.with("32", s) }
func (p paint) yellow(s string) string { return p.with("33", s) }
func (p paint) grey(s string) string   { return p.with("90", s) }
func (p paint) bold(s string) string   { return p.with("1", s) }

// of gives a word one of six colours, always the same.
func (p paint) of(word, s string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(word)) // never fails
	return p.with([]string{"36", "33", "35", "32", "34", "96"}[h.Sum32()%6], s)
}

// health is how something is, worst last.
type health int

const (
	idle   health = iota // nothing is wanted
	well                 // as wanted
	coming               // on its way
	ill                  // somebody should look
)

// dot gives the symbol of a health.
func (p paint) dot(h health) string {
	switch h {
	case well:
		return p.green("●")
	case coming:
		return p.yellow("◐")
	case ill:
		return p.red("✗")
	}
	return p.grey("○")
}

// word colours a word by health.
func (p paint) word(h health, s string) string {
	switch h {
	case well:
		return p.green(s)
	case coming:
		return p.yellow(s)
	case ill:
		return p.red(s)
	}
	return p.grey(s)
}

// writeTable prints a table without borders. Cells may have colours. Without rows nothing is printed.
func writeTable(w io.Writer, p paint, header []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	t := table.NewWriter()
	t.SetStyle(table.Style{Box: table.BoxStyle{PaddingRight: "   "}, Format: table.FormatOptions{Header: text.FormatUpper}})
	t.SuppressTrailingSpaces()
	row := func(cells []string) table.Row {
		out := make(table.Row, len(cells))
		for i, c := range cells {
			out[i] = c
		}
		return out
	}
	if header != nil {
		cells := make([]string, len(header))
		for i, h := range header {
			cells[i] = p.grey(strings.ToUpper(h))
		}
		t.AppendHeader(row(cells))
	}
	for _, r := range rows {
		t.AppendRow(row(r))
	}
	fmt.Fprintln(w, t.Render())
}

// ago gives a short age: 5s, 12m, 3h, 4d.
func ago(now, then time.Time) string {
	if then.IsZero() {
		return "-"
	}
	return short(now.Sub(then))
}

// short gives a time span with one unit.
func short(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// orDash stands for what is empty.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// count gives "1 pod" or "3 pods".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if strings.HasSuffix(what, "s") {
		return fmt.Sprintf("%d %ses", n, what)
	}
	return fmt.Sprintf("%d %ss", n, what)
}
