package oci

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gearmesh.dev/internal/golden"
)

func TestParse(t *testing.T) {
	tests := map[string]struct {
		argv string
		want call
	}{
		"containerd's shim": {
			"runc --root /run/docker/runtime-gear/moby --log /b/log.json --log-format json --systemd-cgroup create --bundle /b --pid-file /b/init.pid abc",
			call{"create", "abc", "/b", "/b/log.json", "json"},
		},
		"values after =":       {"runc --log=/l --log-format=text create --pid-file=/p --bundle=/b abc", call{"create", "abc", "/b", "/l", "text"}},
		"one hyphen, short":    {"runc -log /l create -b /b abc", call{"create", "abc", "/b", "/l", ""}},
		"switches":             {"runc --debug --systemd-cgroup run --no-pivot -d --keep abc", call{"run", "abc", ".", "", ""}},
		"after --":             {"runc create --bundle /b -- abc", call{"create", "abc", "/b", "", ""}},
		"crun's own":           {"crun --cgroup-manager systemd create -f config.json -b /b abc", call{"create", "abc", "/b", "", ""}},
		"bundle named create":  {"runc --root create delete --force abc", call{"delete", "abc", ".", "", ""}},
		"value looks as flag":  {"runc create --bundle --pid-file abc", call{"create", "abc", "--pid-file", "", ""}},
		"no command":           {"runc --version", call{"", "", ".", "", ""}},
		"flag without a value": {"runc create --bundle", call{"create", "", "", "", ""}},
		"nothing":              {"", call{"", "", ".", "", ""}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := parse(strings.Fields(tt.argv)); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestWithNamespace(t *testing.T) {
	for _, name := range []string{"host-network", "bridge", "empty"} {
		in, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		out, err := withNamespace(in, "network", "/run/netns/gear-x")
		if err != nil {
			t.Fatal(err)
		}
		golden.Equal(t, name+".out.json", append(out, '\n'))
		again, err := withNamespace(out, "network", "/run/netns/gear-x")
		if err != nil || string(again) != string(out) {
			t.Errorf("%s: done twice it gives %s, %v", name, again, err)
		}
	}
}

func TestWithNamespaceRefuses(t *testing.T) {
	for _, in := range []string{"", "[]", `{"linux":1}`, `{"linux":{"namespaces":{}}}`, `{} {}`} {
		if out, err := withNamespace([]byte(in), "network", "/n"); err == nil {
			t.Errorf("%q gives %s; want an error", in, out)
		}
	}
}

// Whatever the engine writes, the result has exactly one network namespace, ours, and all else as it was.
func FuzzWithNamespace(f *testing.F) {
	f.Add(`{"a":1e400,"linux":{"x":"<\u2028>","namespaces":[{"type":"network"},{"type":"\u006eetwork","path":"/x"},{"type":"pid"}]}}`)
	f.Add(`{"linux":null}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, in string) {
		out, err := withNamespace([]byte(in), "network", "/run/netns/gear-x")
		if err != nil {
			return
		}
		var before, after map[string]json.RawMessage
		var linux struct {
			Namespaces []struct{ Type, Path string }
		}
		if err := json.Unmarshal(out, &after); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if err := json.Unmarshal(after["linux"], &linux); err != nil {
			t.Fatal(err)
		}
		networks := 0
		for _, ns := range linux.Namespaces {
			if ns.Type == "network" {
				networks++
				if ns.Path != "/run/netns/gear-x" {
					t.Errorf("a namespace at %q", ns.Path)
				}
			}
		}
		if networks != 1 {
			t.Errorf("%d network namespaces in %s", networks, out)
		}
		_ = json.Unmarshal([]byte(in), &before)
		for k := range before {
			if _, ok := after[k]; !ok {
				t.Errorf("%q is lost", k)
			}
		}
	})
}

// bundle makes a bundle, a record directory and a log, and gives a Shim that notes what it becomes.
func bundle(t *testing.T) (dir string, s Shim, became *[]string) {
	dir = t.TempDir()
	config := `{"ociVersion":"1.0.2","linux":{"namespaces":[{"type":"pid"}]}}`
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	became = new([]string)
	s = Shim{
		Record: func(id string) string { return filepath.Join(dir, "record-"+id) },
		Exec: func(path string, argv, env []string) error {
			*became = append([]string{path}, argv...)
			return nil
		},
	}
	return dir, s, became
}

func TestRunPutsTheNamespaceIn(t *testing.T) {
	dir, s, became := bundle(t)
	if err := os.WriteFile(filepath.Join(dir, "record-abc"), []byte("/proc/self/ns/net\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Run([]string{"gear-oci", "create", "--bundle", dir, "abc"}, []string{"GEAR_RUNC=/opt/runc"}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"/opt/runc", "/opt/runc", "create", "--bundle", dir, "abc"}; !slices.Equal(*became, want) {
		t.Errorf("became %q, want %q", *became, want)
	}
	data, _ := os.ReadFile(filepath.Join(dir, "config.json"))
	if !strings.Contains(string(data), `{"path":"/proc/self/ns/net","type":"network"}`) {
		t.Errorf("config.json is %s", data)
	}
	if info, _ := os.Stat(filepath.Join(dir, "config.json")); info.Mode().Perm() != 0o600 {
		t.Errorf("config.json has mode %v now", info.Mode())
	}
}

func TestRunPassesTheRestThrough(t *testing.T) {
	_, s, became := bundle(t)
	if err := s.Run([]string{"gear-oci", "--log", "/dev/null", "delete", "--force", "abc"}, []string{"GEAR_RUNC=/opt/runc"}); err != nil {
		t.Fatal(err)
	}
	if want := "/opt/runc /opt/runc --log /dev/null delete --force abc"; strings.Join(*became, " ") != want {
		t.Errorf("became %q", *became)
	}
}

func TestRunRefuses(t *testing.T) {
	tests := map[string]struct {
		record, id, env string
		want            string
	}{
		"no record":         {"", "abc", "", "no network namespace is on record"},
		"no such namespace": {"/run/netns/none", "abc", "", "no such file or directory; does its -net.service run?"},
		"no namespace":      {"/etc/hostname", "abc", "", "is no namespace"},
		"empty record":      {"\n", "abc", "", `network namespace ""`},
		"an id that climbs": {"", "../abc", "", "without a slash"},
		"relative runtime":  {"/proc/self/ns/net", "abc", "GEAR_RUNC=runc", "want an absolute path"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir, s, became := bundle(t)
			if tt.record != "" {
				if err := os.WriteFile(filepath.Join(dir, "record-abc"), []byte(tt.record), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			log := filepath.Join(dir, "log.json")
			err := s.Run([]string{"gear-oci", "--log", log, "--log-format", "json", "create", "--bundle", dir, tt.id}, []string{tt.env})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if *became != nil {
				t.Errorf("became %q all the same", *became)
			}
			var line struct{ Level, Msg string }
			data, _ := os.ReadFile(log)
			if json.Unmarshal(data, &line) != nil || line.Level != "error" || !strings.Contains(line.Msg, tt.want) {
				t.Errorf("the log has %q", data)
			}
		})
	}
}

func TestRunSaysWhenTheRuntimeCannotBeRun(t *testing.T) {
	_, s, _ := bundle(t)
	s.Exec = func(string, []string, []string) error { return errors.New("exec format error") }
	err := s.Run([]string{"gear-oci", "state", "abc"}, []string{"GEAR_RUNC=/opt/runc"})
	if err == nil || !strings.Contains(err.Error(), `"/opt/runc": exec format error`) {
		t.Errorf("got %v", err)
	}
}
