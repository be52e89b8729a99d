package linker

import (
	"fmt"
	"slices"
	"strings"
)

// Rules is everything that Gearmesh has in the netfilter of one network namespace. The zero
// value is no rules at all. It is made by PodPlan, HostPlan and Read only.
type Rules struct {
	v4, v6 []table
}

// table is our part of one netfilter table ("nat", "filter", "raw").
type table struct {
	name   string
	chains []chain
}

// chain is one of our chains. Rules are in the form of iptables-save, without "-A CHAIN ".
type chain struct {
	name  string
	hook  string // the built-in chain whose first rule jumps here; "" for none
	rules []string
}

// prefix begins the name of every chain of ours, and of no other.
const prefix = "GEAR-"

// Equal reports whether r and o are the same rules.
func (r Rules) Equal(o Rules) bool { return sameTables(r.v4, o.v4) && sameTables(r.v6, o.v6) }

// String gives the text that puts r into a namespace that has none of our chains: one part for
// iptables-restore --noflush and, after it, one for ip6tables-restore --noflush.
func (r Rules) String() string {
	var b strings.Builder
	for _, f := range []struct {
		tool   string
		tables []table
	}{{"iptables-restore", r.v4}, {"ip6tables-restore", r.v6}} {
		if len(f.tables) == 0 {
			continue
		}
		fmt.Fprintf(&b, "# for %s --noflush; written by gear, do not edit\n", f.tool)
		for _, t := range f.tables {
			b.WriteString(t.fresh())
		}
	}
	return b.String()
}

// fresh gives the restore text of t for a table without our chains.
func (t table) fresh() string { return t.text(t.inserts()) }

// swap gives the restore text of t for a table that is known to be was, with the same chains and jumps. Chains that stay are not
// written, so that their rules go on counting. The kernel takes it whole or not at all, so the deletion of a jump that is not there makes it fail, and a
// jump that is there ends up as the one first rule.
func (t table) swap(was table) string {
	var edits []string
	for _, c := range t.chains {
		if c.hook != "" {
			edits = append(edits, "-D "+c.hook+" -j "+c.name, c.insert())
		}
	}
	part := table{name: t.name}
	for i, c := range t.chains {
		if !slices.Equal(c.rules, was.chains[i].rules) {
			part.chains = append(part.chains, c)
		}
	}
	return part.text(edits)
}

// insert gives the line that makes the jump to c the first rule of c's hook.
func (c chain) insert() string { return "-I " + c.hook + " 1 -j " + c.name }

// inserts gives the lines that insert t's jumps.
func (t table) inserts() []string {
	var lines []string
	for _, c := range t.chains {
		if c.hook != "" {
			lines = append(lines, c.insert())
		}
	}
	return lines
}

// text gives the restore text of t: its chains declared, which empties them; edits; its rules.
func (t table) text(edits []string) string {
	var b strings.Builder
	b.WriteString("*" + t.name + "\n")
	for _, c := range t.chains {
		b.WriteString(":" + c.name + " - [0:0]\n")
	}
	for _, e := range edits {
		b.WriteString(e + "\n")
	}
	for _, c := range t.chains {
		for _, r := range c.rules {
			b.WriteString("-A " + c.name + " " + r + "\n")
		}
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

func sameTables(a, b []table) bool { return slices.EqualFunc(a, b, sameTable) }

func sameTable(a, b table) bool {
	return a.name == b.name && slices.EqualFunc(a.chains, b.chains, func(x, y chain) bool {
		return x.name == y.name && x.hook == y.hook && slices.Equal(x.rules, y.rules)
	})
}

// find gives the table of a name, or an empty one.
func find(tables []table, name string) table {
	i := slices.IndexFunc(tables, func(t table) bool { return t.name == name })
	if i < 0 {
		return table{name: name}
	}
	return tables[i]
}

// names gives the names of the tables in either list, sorted.
func names(a, b []table) []string {
	var out []string
	for _, t := range append(slices.Clone(a), b...) {
		out = append(out, t.name)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
