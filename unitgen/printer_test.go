package unitgen

import (
	"strings"
	"testing"
)

// unquote reads a line of words as systemd does: quotes, C escapes, then specifiers. It stands in
// for extract_first_word() and unit_full_printf() where no systemd can be asked; the host
// tests ask a real one.
func unquote(t *testing.T, line string) []string {
	t.Helper()
	var out []string
	var word strings.Builder
	in := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			if in {
				out = append(out, word.String())
				word.Reset()
			}
			in = !in
		case !in && c != ' ':
			t.Fatalf("%q stands outside of quotes in %q", c, line)
		case !in:
		case c == '\\':
			i++
			if i == len(line) || line[i] != '\\' && line[i] != '"' {
				t.Fatalf("unknown escape in %q", line)
			}
			word.WriteByte(line[i])
		case c == '%':
			i++
			if i == len(line) || line[i] != '%' {
				t.Fatalf("a specifier in %q", line)
			}
			word.WriteByte('%')
		default:
			word.WriteByte(c)
		}
	}
	if in {
		t.Fatalf("an open quote in %q", line)
	}
	return out
}

var hostile = []string{"web", "", `a\`, "100%", "%n", `say "hi"`, "a\nExecStart=/bin/sh", "a\rb", "nul\x00", "\xff\xfe",
	"$HOME ${HOME} $$", " lead", "trail ", "\t", "ü", "# c", "a;b", `\x2d\n`, "\u0085", "[Service]"}

func FuzzQuoted(f *testing.F) {
	for _, s := range hostile {
		f.Add(s, "second")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		p := &printer{}
		p.quoted("LogExtraFields", a, b)
		if p.err != nil {
			return
		}
		key, value, _ := strings.Cut(oneLine(t, p), "=")
		got := unquote(t, value)
		if key != "LogExtraFields" || len(got) != 2 || got[0] != a || got[1] != b {
			t.Fatalf("%q and %q come back as %q", a, b, got)
		}
	})
}

func FuzzText(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := &printer{}
		p.text("Description", s)
		if p.err != nil {
			return
		}
		_, value, _ := strings.Cut(oneLine(t, p), "=")
		if strings.TrimSpace(value) != value || strings.HasSuffix(value, `\`) {
			t.Fatalf("systemd would change %q", value)
		}
		if strings.Count(value, "%")%2 != 0 || strings.ReplaceAll(value, "%%", "%") != s {
			t.Fatalf("%q comes back as %q", s, value)
		}
	})
}

func FuzzCommand(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := &printer{}
		p.command("ExecStart", Runner, s)
		if p.err != nil {
			return
		}
		if strings.ContainsAny(s, " \t\"'\\$%;#\n\r\x00") || oneLine(t, p) != "ExecStart="+Runner+" "+s {
			t.Fatalf("%q became a part of a command", s)
		}
	})
}

// Names of users and signals are what people write; neither may become anything else.
func FuzzUserAndSignal(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Add("www-data")
	f.Add("SIGRTMIN+3")
	f.Fuzz(func(t *testing.T, s string) {
		for key, write := range map[string]func(*printer){
			"User":       func(p *printer) { p.user("User", s) },
			"KillSignal": func(p *printer) { p.signal("KillSignal", s) },
		} {
			p := &printer{}
			write(p)
			if p.err == nil && (strings.ContainsAny(s, " \t\"'\\$%;#\n\r\x00/=") || oneLine(t, p) != key+"="+s) {
				t.Fatalf("%q became %q", s, p.b.String())
			}
		}
	})
}

// oneLine fails when the printer wrote anything but one whole line.
func oneLine(t *testing.T, p *printer) string {
	t.Helper()
	line, ok := strings.CutSuffix(p.b.String(), "\n")
	if !ok || strings.ContainsAny(line, "\n\r\x00") {
		t.Fatalf("%q is not one line", p.b.String())
	}
	return line
}

func TestNumbers(t *testing.T) {
	p := &printer{}
	p.percent("A", 1500)
	p.percent("B", 255)
	p.bytes("C", 256<<20)
	p.span("D", 45e9)
	if want := "A=150%\nB=25.5%\nC=268435456\nD=45000ms\n"; p.b.String() != want {
		t.Errorf("got %q, want %q", p.b.String(), want)
	}
}
