package linker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gearmesh.dev/internal/hostexec"
)

// Variant is a kind of iptables. Rules of one are invisible to the other, so everything on a
// host should use the host's own choice.
type Variant string

// The kinds of iptables.
const (
	HostChoice Variant = ""       // what "iptables" is on this host
	NFT        Variant = "nft"    // iptables-nft, over nf_tables
	Legacy     Variant = "legacy" // iptables-legacy, over x_tables
)

// family is one of the two IP versions.
type family struct {
	tool string // "iptables" or "ip6tables"
	want []table
}

// number gives the kernel's name of f.
func (f family) number() uint8 {
	if f.tool == "ip6tables" {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// Apply makes the rules of ours in a network namespace (the path of its file; "" for the caller's)
// exactly r, and changes nothing when they are. It may be called at any time and by several
// callers with the same r.
func Apply(ctx context.Context, netns string, r Rules) error { return HostChoice.Apply(ctx, netns, r) }

// Update does what Apply does for a namespace that is known to have old: it looks at nothing
// first, and writes only the tables that differ. When the namespace turns out not to have old's
// jumps, it does all of Apply.
func Update(ctx context.Context, netns string, old, r Rules) error {
	return HostChoice.Update(ctx, netns, old, r)
}

// Drifted reports whether a namespace has anything of ours but r, or not all of r.
func Drifted(ctx context.Context, netns string, r Rules) (bool, error) {
	return HostChoice.Drifted(ctx, netns, r)
}

// Read gives the rules of ours that a namespace has.
func Read(ctx context.Context, netns string) (Rules, error) { return HostChoice.Read(ctx, netns) }

// Apply is the function Apply with this kind of iptables.
func (v Variant) Apply(ctx context.Context, netns string, r Rules) error {
	for _, f := range families(r) {
		if err := v.apply(ctx, netns, f); err != nil {
			return err
		}
	}
	return nil
}

// maxPasses bounds how often something is read again because it was changed meanwhile.
const maxPasses = 10

// apply reads, and writes what differs. When the kernel refuses that, another program may have
// changed the table in between, so it looks again; what is refused twice in the same words is an error.
func (v Variant) apply(ctx context.Context, netns string, f family) error {
	var refused error
	var last string
	for range maxPasses {
		have, err := v.read(ctx, netns, f.tool)
		if err != nil {
			return err
		}
		text := repairs(have, f.want)
		if text == last && refused != nil {
			return refused
		}
		if refused = v.restore(ctx, netns, f.tool, text); refused == nil {
			return nil
		}
		last = text
	}
	return refused
}

// Update is the function Update with this kind of iptables.
func (v Variant) Update(ctx context.Context, netns string, old, r Rules) error {
	before := families(old)
	for i, f := range families(r) {
		var b strings.Builder
		for _, name := range names(before[i].want, f.want) {
			was, is := find(before[i].want, name), find(f.want, name)
			if !sameShape(was, is) {
				return v.Apply(ctx, netns, r)
			}
			if !sameTable(was, is) {
				b.WriteString(is.swap(was))
			}
		}
		err := v.restore(ctx, netns, f.tool, b.String())
		if exit := (*hostexec.ExitError)(nil); errors.As(err, &exit) {
			return v.Apply(ctx, netns, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Drifted is the function Drifted with this kind of iptables.
func (v Variant) Drifted(ctx context.Context, netns string, r Rules) (bool, error) {
	for _, f := range families(r) {
		have, err := v.read(ctx, netns, f.tool)
		if err != nil {
			return false, err
		}
		if repairs(have, f.want) != "" {
			return true, nil
		}
	}
	return false, nil
}

// Read is the function Read with this kind of iptables.
func (v Variant) Read(ctx context.Context, netns string) (Rules, error) {
	var r Rules
	for _, f := range families(r) {
		have, err := v.read(ctx, netns, f.tool)
		if err != nil {
			return Rules{}, err
		}
		var tables []table
		for _, t := range have {
			tables = append(tables, t.table)
		}
		if f.tool == "iptables" {
			r.v4 = tables
		} else {
			r.v6 = tables
		}
	}
	return r, nil
}

// families gives the parts of r.
func families(r Rules) []family { return versions().families(r) }

// ipVersions is what a kernel has.
type ipVersions struct{ v6 bool }

// versions asks for it. A kernel booted without IPv6 has no ip6tables either, and needs none. It takes a while on a host with many namespaces,
// each of which has a /proc/sys/net of its own.
func versions() ipVersions {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return ipVersions{err == nil}
}

func (v ipVersions) families(r Rules) []family {
	all := []family{{"iptables", r.v4}, {"ip6tables", r.v6}}
	if !v.v6 {
		return all[:1]
	}
	return all
}

// sameShape reports whether a and b have the same chains at the same hooks.
func sameShape(a, b table) bool {
	if len(a.chains) != len(b.chains) {
		return false
	}
	for i, c := range a.chains {
		if c.name != b.chains[i].name || c.hook != b.chains[i].hook {
			return false
		}
	}
	return true
}

// command gives the name of a tool's command, such as iptables-nft-restore.
func (v Variant) command(tool, verb string) string {
	if v == HostChoice {
		return tool + "-" + verb
	}
	return tool + "-" + string(v) + "-" + verb
}

// read asks iptables-save for our rules.
func (v Variant) read(ctx context.Context, netns, tool string) ([]saved, error) {
	text, err := v.save(ctx, netns, tool)
	if err != nil {
		return nil, err
	}
	return parseSaved(text)
}

// save runs iptables-save.
func (v Variant) save(ctx context.Context, netns, tool string, options ...string) (string, error) {
	out, err := hostexec.Run(ctx, hostexec.Cmd{Argv: append([]string{v.command(tool, "save")}, options...), NetNS: netns})
	if err != nil {
		return "", fmt.Errorf("reading the rules of namespace %q: %w", netns, err)
	}
	return string(out), nil
}

// restore hands text to iptables-restore, unless there is none.
func (v Variant) restore(ctx context.Context, netns, tool, text string) error {
	if text == "" {
		return nil
	}
	argv := []string{v.command(tool, "restore"), "--noflush", "-w"}
	_, err := hostexec.Run(ctx, hostexec.Cmd{Argv: argv, Stdin: []byte(text), NetNS: netns})
	if err == nil {
		return nil
	}
	if line := failedLine(err, text); line != "" {
		return fmt.Errorf("writing the rules of namespace %q: line %q: %w", netns, line, err)
	}
	return fmt.Errorf("writing the rules of namespace %q: %w", netns, err)
}

// lineNumber finds the line that iptables-restore complains about: "line 3 failed", "line: 3", "line 3: …".
var lineNumber = regexp.MustCompile(`\bline:? (\d+)`)

// failedLine gives the line of text that err, iptables-restore's, is about; "" when it does not say.
func failedLine(err error, text string) string {
	var exit *hostexec.ExitError
	if !errors.As(err, &exit) {
		return ""
	}
	m := lineNumber.FindStringSubmatch(exit.Stderr)
	if m == nil {
		return ""
	}
	lines := strings.Split(text, "\n")
	if n, err := strconv.Atoi(m[1]); err == nil && 1 <= n && n <= len(lines) {
		return lines[n-1]
	}
	return ""
}
