package install_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/install"
	"gearmesh.dev/internal/clientconfig"
	"gearmesh.dev/internal/pki"
)

func up(t *testing.T, h *fakeHost) install.Report {
	t.Helper()
	r, err := install.Up(t.Context(), h.options())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestUp(t *testing.T) {
	h := newHost(t)
	h.write("etc/docker/daemon.json", `{"log-driver": "journald", "max-concurrent-downloads": 12345678901234567890, "runtimes": {"other": {"path": "/x"}}}`, 0o600)
	if r := up(t, h); !r.Changed() || len(r.Steps) != 11 {
		t.Fatalf("the first run came to %v", r.Steps)
	}
	for path, mode := range map[string]fs.FileMode{
		"usr/local/bin/gear": 0o755, "usr/local/bin/geard": 0o755, "usr/local/bin/gear-run": 0o755,
		"var/lib/gear/master": 0o700, "var/lib/gear/master/ca.key": 0o400, "var/lib/gear/master/people.json": 0o400,
		"var/lib/gear": 0o755, "var/lib/gear/agent": 0o700, "var/lib/gear/agent/host.key": 0o400, "var/lib/gear/agent/gossip.key": 0o400,
		"root/.config/gear/config.json": 0o600, "etc/docker/daemon.json": 0o600,
		"etc/systemd/system/gear-agent.service": 0o644, "etc/systemd/system/gear-haproxy.service": 0o644,
	} {
		if info, err := os.Stat(filepath.Join(h.root, path)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want mode %o", path, info, err, mode)
		}
	}
	if to, _ := os.Readlink(filepath.Join(h.root, "usr/local/bin/gear-oci")); to != "gear-run" {
		t.Errorf("gear-oci leads to %q", to)
	}
	for _, want := range []string{`"log-driver": "journald"`, "12345678901234567890", `"path": "/x"`, `"path": "/usr/local/bin/gear-oci"`, `"live-restore": true`} {
		if !strings.Contains(h.read("etc/docker/daemon.json"), want) {
			t.Errorf("daemon.json lacks %s", want)
		}
	}
	id, err := install.LoadIdentity(filepath.Join(h.root, install.AgentDir))
	if err != nil || id.Name != "h1" || len(id.GossipKey) != 32 || len(id.Peers) != 1 {
		t.Errorf("identity is %+v, %v", id, err)
	}
	for _, c := range h.commands {
		if strings.Contains(c, "restart") || strings.Contains(c, "stop") {
			t.Errorf("systemctl %s: nothing may be restarted", c)
		}
	}
}

func TestUpAgainChangesNothing(t *testing.T) {
	h := newHost(t)
	up(t, h)
	before, ran := snapshot(t, h), len(h.commands)
	r := up(t, h)
	if r.Changed() || len(h.commands) != ran {
		t.Errorf("the second run did %v and ran %q", r.Steps, h.commands[ran:])
	}
	if after := snapshot(t, h); after != before {
		t.Error("the second run changed files")
	}
	if len(h.joined) != 1 {
		t.Errorf("the host joined %d times", len(h.joined))
	}
}

// snapshot names every file with its time of change and size.
func snapshot(t *testing.T, h *fakeHost) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(h.root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		b.WriteString(p + " " + info.ModTime().Format(time.RFC3339Nano) + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestUpGivesALostTokenAnew(t *testing.T) {
	h := newHost(t)
	up(t, h)
	path := filepath.Join(h.root, "root/.config/gear/config.json")
	old, err := clientconfig.Load(path)
	h.must(err)
	h.must(os.Remove(path))
	up(t, h)
	now, err := clientconfig.Load(path)
	h.must(err)
	people, err := install.LoadPeople(filepath.Join(h.root, install.MasterDir))
	h.must(err)
	if len(people) != 1 || !pki.SecretMatches(now.Contexts[0].Token, people[0].TokenHash) || pki.SecretMatches(old.Contexts[0].Token, people[0].TokenHash) {
		t.Errorf("people are %+v", people)
	}
	if last := h.commands[len(h.commands)-1]; last != "restart gear-master.service" {
		t.Errorf("the master does not read the new token: last was systemctl %s", last)
	}
}

func TestUpKeepsItsCA(t *testing.T) {
	h := newHost(t)
	up(t, h)
	h.must(os.Remove(filepath.Join(h.root, "var/lib/gear/master/ca.key")))
	if _, err := install.Up(t.Context(), h.options()); err == nil || !strings.Contains(err.Error(), "backup") {
		t.Errorf("with the CA's key lost: %v", err)
	}
}

func TestJoin(t *testing.T) {
	master, h := newHost(t), newHost(t)
	up(t, master)
	client, err := clientconfig.Load(filepath.Join(master.root, "root/.config/gear/config.json"))
	h.must(err)
	ca, err := pki.ParseCert([]byte(client.Contexts[0].CA))
	h.must(err)
	master.token = pki.NewToken(ca)
	o := install.JoinOptions{Options: h.options(), Master: "127.0.0.1", Token: master.token.String()}
	o.MasterPort, o.Labels = master.port, map[string]string{"zone": "a"}
	r, err := install.Join(t.Context(), o)
	if err != nil || !r.Changed() {
		t.Fatalf("%v: %v", err, r.Steps)
	}
	if got := master.joined[1]; got.Name != "h1" || got.Labels["zone"] != "a" {
		t.Errorf("the master was asked %+v", got)
	}
	for _, secret := range []string{"var/lib/gear/master", "root/.config"} {
		if _, err := os.Stat(filepath.Join(h.root, secret)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a joined host has %s", secret)
		}
	}
	if r, err = install.Join(t.Context(), o); err != nil || r.Changed() {
		t.Errorf("again, with the used token: %v, %v", err, r.Steps)
	}
	other, err := pki.NewCA(time.Now())
	h.must(err)
	o.Token = pki.NewToken(other.Cert).String()
	if _, err = install.Join(t.Context(), o); err == nil || !strings.Contains(err.Error(), "another cluster") {
		t.Errorf("with another cluster's token: %v", err)
	}
}

func TestJoinRefusals(t *testing.T) {
	master := newHost(t)
	up(t, master)
	id, err := install.LoadIdentity(filepath.Join(master.root, install.AgentDir))
	master.must(err)
	other, err := pki.NewCA(time.Now())
	master.must(err)
	tests := map[string]struct{ master, token, want string }{
		"used token":    {"127.0.0.1", pki.NewToken(id.CA).String(), "used already"},
		"other cluster": {"127.0.0.1", pki.NewToken(other.Cert).String(), "another cluster"},
		"cut token":     {"127.0.0.1", "abc.def", "copied whole"},
		"bad master":    {"http://x/", pki.NewToken(id.CA).String(), "no address"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			o := install.JoinOptions{Options: h.options(), Master: tt.master, Token: tt.token}
			o.MasterPort = master.port
			if _, err := install.Join(t.Context(), o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if _, err := install.LoadIdentity(filepath.Join(h.root, install.AgentDir)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a refused host has an identity: %v", err)
			}
		})
	}
}

func TestPrerequisites(t *testing.T) {
	tests := map[string]struct {
		spoil func(*fakeHost)
		want  string
	}{
		"no systemd":   {func(h *fakeHost) { os.RemoveAll(filepath.Join(h.root, "run/systemd")) }, "process 1"},
		"no tools":     {func(h *fakeHost) { os.RemoveAll(filepath.Join(h.root, "usr")) }, "apt-get install -y iptables conntrack docker.io runc haproxy"},
		"old docker":   {func(h *fakeHost) { h.docker["ServerVersion"] = "19.03.8" }, "20.10 or newer"},
		"cgroupfs":     {func(h *fakeHost) { h.docker["CgroupDriver"] = "cgroupfs" }, "native.cgroupdriver=systemd"},
		"swarm":        {func(h *fakeHost) { h.docker["Swarm"] = map[string]any{"LocalNodeState": "active"} }, "swarm leave"},
		"docker down":  {func(h *fakeHost) { os.Remove(filepath.Join(h.root, "run/docker.sock")) }, "enable --now docker"},
		"no cgroup":    {func(h *fakeHost) { os.RemoveAll(filepath.Join(h.root, "sys")) }, "memory controller"},
		"settings":     {func(h *fakeHost) { h.write("etc/docker/daemon.json", "{", 0o644) }, "mend the file"},
		"runtimes":     {func(h *fakeHost) { h.write("etc/docker/daemon.json", `{"runtimes": 1}`, 0o644) }, "no object"},
		"no release":   {func(h *fakeHost) { os.Remove(filepath.Join(h.root, "release/gear-run")) }, "gear-run is neither"},
		"foreign unit": {func(h *fakeHost) { h.write("etc/systemd/system/gear.target", "[Unit]\n", 0o644) }, "not ours"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			tt.spoil(h)
			o := h.options()
			o.Labels = map[string]string{api.RouterLabel: "true"}
			var last install.Step
			o.Progress = func(s install.Step) { last = s }
			_, err := install.Up(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if last.Err == nil {
				t.Errorf("progress ended with %v", last)
			}
			for _, c := range h.commands {
				if strings.HasPrefix(c, "start") {
					t.Errorf("systemctl %s ran on a host that is not fit", c)
				}
			}
		})
	}
}

func TestMergeKeepsWhatIsThere(t *testing.T) {
	h := newHost(t)
	up(t, h)
	var settings map[string]any
	h.must(json.Unmarshal([]byte(h.read("etc/docker/daemon.json")), &settings))
	if len(settings) != 2 {
		t.Errorf("a host without settings got %v", settings)
	}
}
