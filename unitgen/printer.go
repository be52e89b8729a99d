package unitgen

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"gearmesh.dev/api"
)

// printer writes one unit file. It has a method for each kind of value, because systemd reads
// them by different rules; what a kind cannot carry is an error, kept until text is asked for.
type printer struct {
	b   strings.Builder
	err error
}

func (p *printer) comment(key, value string) { p.line("# "+key+": ", value, checkPlain(value)) }

// section opens a section, after an empty line.
func (p *printer) section(name string) { p.b.WriteString("\n[" + name + "]\n") }

// word writes a value of our own: a constant, never anybody's text.
func (p *printer) word(key, value string) { p.b.WriteString(key + "=" + value + "\n") }

func (p *printer) yes(key string) { p.word(key, "yes") }

// text writes a value that systemd takes as it is but for %-specifiers, such as Description=.
// It has no quoting, so what a line cannot hold is refused: a "\" at the end would swallow the
// next line, and blanks at the ends would be dropped.
func (p *printer) text(key, value string) {
	err := checkPlain(value)
	if err == nil && strings.HasSuffix(value, `\`) {
		err = errors.New(`ends in a backslash`)
	}
	if err == nil && strings.TrimSpace(value) != value {
		err = errors.New("starts or ends with a blank")
	}
	p.line(key+"=", strings.ReplaceAll(value, "%", "%%"), err)
}

// quoted writes values that systemd splits into words and unquotes, such as LogExtraFields= and
// Environment= (systemd.syntax(7), "Quoting").
func (p *printer) quoted(key string, values ...string) {
	for i, v := range values {
		values[i] = quote(v)
		if err := checkPlain(v); err != nil {
			p.fail(key, err)
		}
	}
	p.line(key+"=", strings.Join(values, " "), nil)
}

// command writes an absolute path and its arguments. Each argument must be one of our ids, or a
// word of ours: letters, digits, "/", "-", "." and ":" need no quoting and can expand to nothing.
func (p *printer) command(key string, argv ...string) {
	for _, a := range argv {
		if a == "" || strings.ContainsFunc(a, func(r rune) bool { return !idRune(r) }) {
			p.fail(key, fmt.Errorf("%q is no id", a))
		}
	}
	if argv[0][0] != '/' {
		p.fail(key, fmt.Errorf("%q is no absolute path", argv[0]))
	}
	p.line(key+"=", strings.Join(argv, " "), nil)
}

// privileged writes a command as command does, for systemd to run as root and outside the unit's sandbox.
func (p *printer) privileged(key string, argv ...string) {
	before := p.b.Len()
	p.command(key, argv...)
	if text := p.b.String(); len(text) > before {
		p.b.Reset()
		p.b.WriteString(text[:before] + key + "=+" + text[before+len(key)+1:])
	}
}

// kill writes a command that kills all of a unit's processes, and whose failure does not count: there may be none. The
// unit's name is quoted, because its backslashes would be read as escapes (systemd.service(5), "Command lines").
func (p *printer) kill(key, systemctl, unit string) {
	if err := checkUnitName(unit); err != nil {
		p.fail(key, err)
	}
	p.line(key+"=", "-"+systemctl+" kill --signal=SIGKILL "+quote(unit), nil)
}

// user writes the name of a user of the host: what systemd takes in any mode (systemd.exec(5)), and
// nothing that expands.
func (p *printer) user(key, name string) {
	ok := len(name) > 0 && len(name) <= 31
	for i := range len(name) {
		c := name[i]
		ok = ok && ('a' <= c && c <= 'z' || c == '_' || i > 0 && ('0' <= c && c <= '9' || c == '-'))
	}
	if !ok {
		p.fail(key, fmt.Errorf("%q is no user name", name))
	}
	p.line(key+"=", name, nil)
}

// signal writes the name of a signal.
func (p *printer) signal(key, name string) {
	rest, ok := strings.CutPrefix(name, "SIG")
	if !ok || rest == "" || len(rest) > 12 || strings.ContainsFunc(rest, func(r rune) bool { return !signalRune(r) }) {
		p.fail(key, fmt.Errorf("%q is no signal", name))
	}
	p.line(key+"=", name, nil)
}

// path writes an absolute path of ours, made of ids.
func (p *printer) path(key, value string) { p.markedPath(key, "", value) }

// pathIfThere writes one that systemd leaves out while it is not there.
func (p *printer) pathIfThere(key, value string) { p.markedPath(key, "-", value) }

func (p *printer) markedPath(key, mark, value string) {
	if !strings.HasPrefix(value, "/") || strings.ContainsFunc(value, func(r rune) bool { return !idRune(r) }) {
		p.fail(key, fmt.Errorf("%q is no path of ours", value))
	}
	p.line(key+"="+mark, value, nil)
}

// units writes names of units.
func (p *printer) units(key string, names ...string) {
	for _, n := range names {
		if err := checkUnitName(n); err != nil {
			p.fail(key, err)
		}
	}
	p.line(key+"=", strings.Join(names, " "), nil)
}

func (p *printer) bytes(key string, b api.Bytes) { p.word(key, strconv.FormatInt(int64(b), 10)) }

func (p *printer) number(key string, n int) { p.word(key, strconv.Itoa(n)) }

// percent writes processors as systemd counts them: 100% is one of them.
func (p *printer) percent(key string, c api.CPU) {
	whole, tenth := c/10, c%10
	if tenth == 0 {
		p.word(key, fmt.Sprintf("%d%%", whole))
		return
	}
	p.word(key, fmt.Sprintf("%d.%d%%", whole, tenth))
}

// span writes a time span in milliseconds, so that no value depends on a default unit.
func (p *printer) span(key string, d time.Duration) {
	p.word(key, strconv.FormatInt(d.Milliseconds(), 10)+"ms")
}

func (p *printer) line(head, value string, err error) {
	if err != nil {
		p.fail(strings.TrimRight(head, "=: "), err)
		return
	}
	p.b.WriteString(head + value + "\n")
}

func (p *printer) fail(key string, err error) {
	p.err = errors.Join(p.err, fmt.Errorf("%s: %w", key, err))
}

// quote puts v between double quotes. Within them systemd reads C escapes; "%" opens a specifier
// everywhere, and an unknown one would drop the whole line.
func quote(v string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%").Replace(v) + `"`
}

// checkPlain refuses what systemd does not take in any value: \r and NUL end a line as \n does,
// bad UTF-8 drops it.
func checkPlain(v string) error {
	if !utf8.ValidString(v) {
		return fmt.Errorf("%q is not valid UTF-8", v)
	}
	if i := strings.IndexFunc(v, unicode.IsControl); i >= 0 {
		return fmt.Errorf("%q has a control character at byte %d", v, i)
	}
	return nil
}

// checkUnitName follows unit_name_is_valid() of systemd's src/basic/unit-name.c.
func checkUnitName(n string) error {
	if len(n) == 0 || len(n) > 255 {
		return fmt.Errorf("unit name %.80q is %d bytes long; 1 to 255 are allowed", n, len(n))
	}
	for i := range len(n) {
		if !plainUnitByte(n[i]) && n[i] != '-' && n[i] != '\\' && n[i] != '@' {
			return fmt.Errorf("unit name %q has %q", n, n[i:i+1])
		}
	}
	return nil
}

func idRune(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("/-.:_", r)
}

func signalRune(r rune) bool {
	return 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '+' || r == '-'
}
