package runner

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/geard/engine"
)

func TestOOMFile(t *testing.T) {
	tests := map[string]struct {
		text, want string
		version2   bool
	}{
		"version 2":     {"0::/gear.slice/docker-1.scope\n", "/c/gear.slice/docker-1.scope/memory.events", true},
		"version 1":     {"9:name=systemd:/a\n4:cpu,cpuacct:/a\n3:memory:/gear.slice/x\n", "/c/memory/gear.slice/x/memory.oom_control", false},
		"both":          {"3:hugetlb,memory:/a\n0::/b\n", "/c/memory/a/memory.oom_control", false},
		"with a colon":  {"0::/a:b\n", "/c/a:b/memory.events", true},
		"neither":       {"9:name=systemd:/a\n", "", false},
		"no such thing": {"\x00", "", false},
	}
	for name, tt := range tests {
		got, v2, err := oomFile("/c", tt.text)
		if got != tt.want || v2 != tt.version2 || (err == nil) != (tt.want != "") {
			t.Errorf("%s: %q, %v, %v; want %q, %v", name, got, v2, err, tt.want, tt.version2)
		}
	}
}

func TestOOMKills(t *testing.T) {
	for text, want := range map[string]int{
		"low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n": 2,
		"oom_kill_disable 0\nunder_oom 0\noom_kill 7\n":                7,
		"oom_kill_disable 1\n":                                         -1,
	} {
		got, err := oomKills([]byte(text))
		if want >= 0 && (got != want || err != nil) || want < 0 && err == nil {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

// The engine has thrown away what was to be read next: that is said, once.
func TestLostOutputIsSaid(t *testing.T) {
	var out, log bytes.Buffer
	at := time.Unix(1e9, 0)
	fake := &rotated{entries: []engine.Entry{{Time: at.Add(time.Hour), Text: []byte("new\n")}, {Time: at.Add(2 * time.Hour), Text: []byte("newer\n")}}}
	o := &output{logs: fake, stdout: &out, file: filepath.Join(t.TempDir(), "position"), log: slog.New(slog.NewTextHandler(&log, nil)), pos: position{at, 2}}
	o.rest(t.Context())
	if got := strings.Count(log.String(), "output was lost"); got != 1 || !strings.Contains(log.String(), "holes=1") {
		t.Errorf("the log is %s", log.String())
	}
	o.rest(t.Context()) // from the last entry on, which is there
	if out.String() != "new\nnewer\n" || strings.Count(log.String(), "output was lost") != 1 {
		t.Errorf("output %q, log %s", out.String(), log.String())
	}
}

// rotated is the output of a container, as far as the engine still has it.
type rotated struct {
	watcher
	entries []engine.Entry
}

func (r *rotated) Logs(_ context.Context, _ string, since time.Time, _ bool, each func(engine.Entry) error) error {
	for _, e := range r.entries {
		if e.Time.Before(since) {
			continue
		}
		if err := each(e); err != nil {
			return err
		}
	}
	return nil
}
