package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"gearmesh.dev/internal/clientconfig"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"gear": func() { os.Exit(gear()) }})
}

// TestScripts runs testdata/script: gear as people call it, against a master of its own for each script.
func TestScripts(t *testing.T) {
	deadline, _ := t.Deadline()
	if !deadline.IsZero() {
		deadline = deadline.Add(-time.Minute) // a script that hangs is shown
	}
	testscript.Run(t, testscript.Params{
		Dir:      "testdata/script",
		Deadline: deadline,
		Setup: func(e *testscript.Env) error {
			m := newFakeMaster()
			e.Defer(m.stop)
			file := clientconfig.File{}.Set(clientconfig.Context{Name: "test", Server: m.URL, CA: m.ca(), Token: fakeToken})
			other := file.Set(clientconfig.Context{Name: "stranger", Server: m.URL, CA: m.ca(), Token: "wrong"})
			other.Current = "test"
			text, err := json.Marshal(other)
			if err != nil {
				return err
			}
			path := filepath.Join(e.WorkDir, "config.json")
			e.Setenv("GEAR_CONFIG", path)
			return os.WriteFile(path, text, 0o600)
		},
		// exits CODE COMMAND... checks an exit status, which scripts promise.
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}
