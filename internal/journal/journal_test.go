package journal

import (
	"slices"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for name, tc := range map[string]struct{ line, text string }{
		"plain":   {`{"MESSAGE":"hello","__REALTIME_TIMESTAMP":"1700000000000001"}`, "hello"},
		"bytes":   {`{"MESSAGE":[104,255,10],"__REALTIME_TIMESTAMP":"1700000000000001"}`, `h\xff\x0a`},
		"twice":   {`{"MESSAGE":["a","b"],"__REALTIME_TIMESTAMP":"1700000000000001"}`, "a"},
		"ansi":    {`{"MESSAGE":"\u001b[31mred","__REALTIME_TIMESTAMP":"1700000000000001"}`, `\x1b[31mred`},
		"bidi":    {`{"MESSAGE":"a\u202eb","__REALTIME_TIMESTAMP":"1700000000000001"}`, `a\u202eb`},
		"nothing": {`{"MESSAGE":null,"__REALTIME_TIMESTAMP":"1700000000000001"}`, ""},
	} {
		e, err := Parse([]byte(tc.line))
		if err != nil || e.Text != tc.text || e.Time != time.UnixMicro(1700000000000001) {
			t.Errorf("%s: %q at %v, %v; want %q", name, e.Text, e.Time, err, tc.text)
		}
	}
	for _, bad := range []string{``, `{`, `[]`, `{"MESSAGE":"x"}`, `{"__REALTIME_TIMESTAMP":"soon"}`} {
		if _, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%q was taken for an entry", bad)
		}
	}
}

func TestArgsEndOptionsBeforeMatches(t *testing.T) {
	got := args(Query{Match: []string{"--merge"}, Tail: 5, Since: time.Minute, Follow: true})
	want := []string{"--output=json", "--all", "--quiet", "--no-pager", "--lines=5", "--since=-61s", "--follow", "--", "--merge"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("plain\ttext")
	f.Add("\x1b]0;title\a\xff\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range Escape(s) {
			if r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 || r == 0x202e {
				t.Fatalf("%q came out with %q", s, r)
			}
		}
	})
}
