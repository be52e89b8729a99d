package mesh

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/api"
)

func TestBelieve(t *testing.T) {
	at := time.Unix(1000, 0)
	// Each letter is a member: A alive, L left, a digit failed that many minutes ago.
	for _, c := range []struct {
		members string
		down    string
		trusted bool
	}{
		{"", "", true},
		{"A", "", true},
		{"AA", "", true},
		{"A0", "b", true},      // of a pair, one may fail
		{"A00", "", false},     // cut off
		{"A09", "bc", true},    // one by one
		{"AAA00", "de", true},  // two of five
		{"AA000", "", false},   // three of five together
		{"AA123", "cde", true}, // three of five, one a minute
		{"A9000", "b", false},  // the one that was down before stays so
		{"A9900", "bc", false}, // of the three left, two vanish
		{"AA0L", "cd", true},
		{"A0L", "", false},
		{"AAAAA00000", "fghij", true}, // exactly half
		{"AAAA000000", "", false},
	} {
		var members []Member
		for i, r := range c.members {
			m := Member{Name: api.Name(string(rune('a' + i))), State: Alive, Since: at}
			switch {
			case r == 'L':
				m.State = Left
			case r != 'A':
				m.State, m.Since = Failed, at.Add(-time.Duration(r-'0')*time.Minute)
			}
			members = append(members, m)
		}
		down, trusted := Believe(members, 30*time.Second)
		var got strings.Builder
		for _, n := range down {
			got.WriteString(string(n))
		}
		if got.String() != c.down || trusted != c.trusted {
			t.Errorf("%s: down %q, trusted %v; want %q, %v", c.members, got.String(), trusted, c.down, c.trusted)
		}
	}
}

func TestSnapshotPeers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snap")
	text := "alive: a 192.0.2.1:7946\nclock: 4\nalive: b 192.0.2.2:7946\nnot-alive: b\nalive: c nonsense\nalive: a 192.0.2.9:7946\n\x00\xff\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range snapshotPeers(path) {
		got = append(got, a.String())
	}
	if !slices.Equal(got, []string{"192.0.2.9", "192.0.2.2"}) {
		t.Errorf("peers %v", got)
	}
	if snapshotPeers("") != nil || snapshotPeers(path+"x") != nil {
		t.Error("peers from nowhere")
	}
}

func TestLoadFailedTakesAnything(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, text := range []string{"", "{", `[{"name":"A B"}]`, `[{"name":1}]`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if g := loadFailed(path); len(g.known) != 0 {
			t.Errorf("%q: %+v", text, g.known)
		}
	}
}

func TestGhostsGrowOld(t *testing.T) {
	at := time.Unix(1e9, 0)
	g := &ghosts{known: []ghost{{Name: "old", Since: at.Add(-time.Hour)}, {Name: "new", Since: at}, {Name: "back", Since: at}}}
	got := g.add([]Member{{Name: "back", State: Alive}}, at.Add(-time.Minute))
	if len(got) != 2 || got[0].State != Alive || got[1].Name != "new" || got[1].State != Failed {
		t.Errorf("members %+v", got)
	}
}

func TestLogIsBounded(t *testing.T) {
	r := &recorder{}
	l := &lineLog{log: slog.New(r)}
	for range 1000 {
		l.Write([]byte("2026/01/01 no level\n"))
		l.Write([]byte("[ERR] memberlist: junk\n"))
		l.Write([]byte("[DEBUG] serf: talk\n"))
	}
	if r.count("WARN memberlist: junk") != logBurst || r.count("") != 2*logBurst {
		t.Errorf("%d warnings, %d lines", r.count("WARN"), r.count(""))
	}
	if hidden, ok := l.pass(slog.LevelWarn, time.Now().Add(logEvery)); hidden != 1000-logBurst || !ok {
		t.Errorf("%d are said to be hidden", hidden)
	}
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add("rev", []byte("web-1 12"))
	f.Add("ep", []byte("h 9223372036854775807"))
	f.Add("restart", []byte("h 0"))
	f.Add("ep", []byte("h -1"))
	f.Add("ep", []byte("h\n1 1"))
	f.Fuzz(func(t *testing.T, name string, payload []byte) {
		e, err := decodeEvent(name, payload)
		if err != nil {
			return
		}
		if err := e.host.Validate(); err != nil || e.value < 0 {
			t.Fatalf("%+v from %q: %v", e, payload, err)
		}
		if again, err := decodeEvent(e.name, e.encode()); err != nil || again != e {
			t.Fatalf("%+v became %+v: %v", e, again, err)
		}
	})
}

func TestJoinWait(t *testing.T) {
	for name, tt := range map[string]struct {
		tries, alive int
		since, want  time.Duration
	}{
		"alone, at first":                     {0, 1, time.Hour, 500 * time.Millisecond},
		"alone, later":                        {9, 1, time.Hour, 2 * time.Second},
		"alone for a very long time":          {1 << 40, 1, time.Hour, 2 * time.Second},
		"one of three has just been lost":     {0, 2, time.Second, time.Second},
		"it stays lost":                       {7, 2, time.Minute, 2 * time.Second},
		"it is lost for good":                 {50, 2, time.Hour, 30 * time.Second},
		"one of 5,000: each tries but seldom": {0, 4999, time.Second, 30 * time.Second},
	} {
		if got := joinWait(tt.tries, tt.alive, tt.since); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}
