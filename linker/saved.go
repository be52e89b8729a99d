package linker

import (
	"fmt"
	"slices"
	"strings"
)

// saved is what iptables-save says of one table: our chains, and every jump to one of them.
type saved struct {
	table
	jumps []jump
}

// jump is a rule of somebody else's chain that goes to a chain of ours.
type jump struct {
	hook  string // the chain that it is in
	first bool   // it is that chain's first rule
	rule  string // without "-A HOOK "
	chain string // where it goes
}

// parseSaved reads the output of iptables-save. Tables in which nothing is ours are left out.
func parseSaved(text string) ([]saved, error) {
	var all []saved
	seen := map[string]bool{}
	for n, line := range strings.Split(text, "\n") {
		switch {
		case line == "" || line[0] == '#' || line == "COMMIT":
			continue
		case line[0] == '*':
			all = append(all, saved{table: table{name: line[1:]}})
			clear(seen)
			continue
		case len(all) == 0:
			return nil, fmt.Errorf("reading iptables-save: line %d, %q, is outside a table", n+1, line)
		}
		t := &all[len(all)-1]
		if name, ok := strings.CutPrefix(line, ":"); ok {
			t.declare(name)
		} else if rest, ok := strings.CutPrefix(line, "-A "); ok {
			t.rule(rest, seen)
		}
	}
	for i := range all {
		all[i].settle()
	}
	slices.SortFunc(all, func(a, b saved) int { return strings.Compare(a.name, b.name) })
	return slices.DeleteFunc(all, func(t saved) bool { return len(t.chains) == 0 }), nil
}

// declare notes a chain of ours, from "NAME POLICY [packets:bytes]".
func (t *saved) declare(line string) {
	if name, _, _ := strings.Cut(line, " "); strings.HasPrefix(name, prefix) {
		t.chains = append(t.chains, chain{name: name})
	}
}

// rule notes a rule of a chain of ours, or a jump to one; seen has the chains that have had a rule.
func (t *saved) rule(line string, seen map[string]bool) {
	name, rule, _ := strings.Cut(line, " ")
	first := !seen[name]
	seen[name] = true
	if i := t.index(name); i >= 0 {
		t.chains[i].rules = append(t.chains[i].rules, rule)
		return
	}
	words := strings.Fields(rule)
	for i := 1; i < len(words); i++ {
		if (words[i-1] == "-j" || words[i-1] == "-g") && t.index(words[i]) >= 0 {
			t.jumps = append(t.jumps, jump{name, first, rule, words[i]})
			return
		}
	}
}

func (t *saved) index(name string) int {
	return slices.IndexFunc(t.chains, func(c chain) bool { return c.name == name })
}

// settle sorts the chains and gives those with a jump as it should be their hook.
func (t *saved) settle() {
	t.table = ordered(t.name, t.chains)
	for _, j := range t.jumps {
		if j.sound() {
			t.chains[t.index(j.chain)].hook = j.hook
		}
	}
}

// sound reports whether j is the jump that Apply makes.
func (j jump) sound() bool { return j.first && j.rule == "-j "+j.chain }

// is reports whether the kernel has want, the whole of it and nothing else of ours.
func (t saved) is(want table) bool {
	hooks := 0
	for _, c := range want.chains {
		if c.hook != "" {
			hooks++
		}
	}
	return len(t.jumps) == hooks && sameTable(t.table, want)
}

// repair gives the restore text that turns t into want; "" when nothing is to be done.
func (t saved) repair(want table) string {
	if len(t.chains) == 0 && len(want.chains) == 0 || t.is(want) {
		return ""
	}
	if t.hooked(want) {
		return t.amend(want)
	}
	var edits []string
	for _, j := range t.jumps {
		edits = append(edits, "-D "+j.hook+" "+j.rule)
	}
	edits = append(edits, t.leftovers(want)...)
	return want.text(append(edits, want.inserts()...))
}

// hooked tells whether all jumps to chains of ours are those that are wanted.
func (t saved) hooked(want table) bool {
	n := 0
	for _, c := range want.chains {
		if c.hook == "" {
			continue
		}
		n++
		if i := t.index(c.name); i < 0 || t.chains[i].hook != c.hook {
			return false
		}
	}
	return len(t.jumps) == n
}

// amend gives the restore text that writes the chains that differ, and lets the others be, with their counters.
func (t saved) amend(want table) string {
	part := table{name: t.name}
	for _, c := range want.chains {
		if i := t.index(c.name); i < 0 || !slices.Equal(t.chains[i].rules, c.rules) {
			part.chains = append(part.chains, c)
		}
	}
	return part.text(t.leftovers(want))
}

// leftovers gives the lines that delete the chains of ours that are not wanted: all are emptied first,
// since one may jump to another.
func (t saved) leftovers(want table) []string {
	var empty, remove []string
	for _, c := range t.chains {
		if !slices.ContainsFunc(want.chains, func(w chain) bool { return w.name == c.name }) {
			empty = append(empty, "-F "+c.name)
			remove = append(remove, "-X "+c.name)
		}
	}
	return append(empty, remove...)
}

// repairs gives the restore text that turns all of have into want.
func repairs(have []saved, want []table) string {
	var b strings.Builder
	var there []table
	for _, t := range have {
		there = append(there, t.table)
	}
	for _, name := range names(there, want) {
		at := saved{table: table{name: name}}
		if i := slices.IndexFunc(have, func(t saved) bool { return t.name == name }); i >= 0 {
			at = have[i]
		}
		b.WriteString(at.repair(find(want, name)))
	}
	return b.String()
}
