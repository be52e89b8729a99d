package main

import (
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestEveryCommandHelps walks the tree: each command has a sentence and an example that starts
// with its own path and has flags that exist.
func TestEveryCommandHelps(t *testing.T) {
	a := newApp(streams{in: strings.NewReader(""), out: io.Discard, err: io.Discard, getenv: func(string) string { return "" }})
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: a short sentence without a full stop is needed, not %q", c.CommandPath(), c.Short)
		}
		if c.Runnable() && !c.HasSubCommands() && !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s has no example", c.CommandPath())
		}
		for line := range strings.Lines(c.Example) {
			checkExample(t, c.Root(), line)
		}
		for _, sub := range c.Commands() {
			if sub.Name() != "completion" && sub.Name() != "help" {
				walk(sub)
			}
		}
	}
	walk(a.root())
}

// checkExample finds the commands of an example's line, and each of their flags.
func checkExample(t *testing.T, root *cobra.Command, line string) {
	line, _, _ = strings.Cut(line, "  # ")
	for _, part := range strings.FieldsFunc(line, func(r rune) bool { return r == ';' || r == '|' }) {
		words := strings.Fields(part)
		if len(words) == 0 || words[0] != "gear" {
			continue
		}
		c, _, err := root.Find(words[1:])
		if err != nil || c == root {
			t.Errorf("%q: there is no such command: %v", part, err)
			continue
		}
		c.InitDefaultHelpFlag()
		for _, w := range words[1:] {
			if w == "--" {
				break
			}
			name, _, _ := strings.Cut(strings.TrimLeft(w, "-"), "=")
			switch {
			case strings.HasPrefix(w, "--") && c.Flag(name) == nil:
				t.Errorf("%q: %s has no flag --%s", part, c.CommandPath(), name)
			case len(w) == 2 && w[0] == '-' && c.Flags().ShorthandLookup(name) == nil && c.InheritedFlags().ShorthandLookup(name) == nil:
				t.Errorf("%q: %s has no flag -%s", part, c.CommandPath(), name)
			}
		}
	}
}
