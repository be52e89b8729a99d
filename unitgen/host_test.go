//go:build host

// These tests run as root on a host whose process 1 is systemd, and ask it what it makes of what
// the printer writes. TestLabHost of contrib/systemd runs them on a lab host.
package unitgen

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/hostexec"
)

func systemctl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := hostexec.Run(t.Context(), hostexec.Cmd{Argv: append([]string{"systemctl"}, args...)})
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// runtimeUnit writes a unit file for the test's time.
func runtimeUnit(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("/run/systemd/system", name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(path) })
}

// hostileText makes text of what has a meaning to systemd.
func hostileText(r *rand.Rand) string {
	parts := []string{"a", "Z", "0", " ", `\`, `"`, "'", "%", "%n", "%H", "%%", "$", "${HOME}", "$$", "#", ";", "=", "ü", "\\x41", `\n`, "[", "]", "~", "`", "|"}
	var b strings.Builder
	for range r.IntN(12) {
		b.WriteString(parts[r.IntN(len(parts))])
	}
	return b.String()
}

func TestHostSystemdReadsBackWhatWasPrinted(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	type printed struct{ text, one, two string }
	want := map[string]printed{}
	names := []string{}
	for i := 0; len(want) < 200; i++ {
		v := printed{hostileText(r), hostileText(r), hostileText(r)}
		p := &printer{}
		p.section("Unit")
		p.text("Description", v.text)
		p.section("Service")
		p.command("ExecStart", "/bin/true")
		p.quoted("LogExtraFields", "GEAR_A="+v.one, "GEAR_B="+v.two)
		if p.err != nil || v.text == "" {
			continue
		}
		name := fmt.Sprintf("gear-oracle-%d.service", i)
		runtimeUnit(t, name, p.b.String())
		want[name] = v
		names = append(names, name)
	}
	out := systemctl(t, append([]string{"show", "-p", "Id", "-p", "Description", "-p", "LogExtraFields", "-p", "LoadState"}, names...)...)
	blocks := strings.Split(strings.TrimSuffix(out, "\n"), "\n\n")
	if len(blocks) != len(names) {
		t.Fatalf("%d answers for %d units", len(blocks), len(names))
	}
	for i, name := range names {
		got, v := "\n"+blocks[i]+"\n", want[name]
		for _, line := range []string{"Id=" + name, "LoadState=loaded", "Description=" + v.text, "LogExtraFields=GEAR_A=" + v.one + " GEAR_B=" + v.two} {
			if !strings.Contains(got, "\n"+line+"\n") {
				t.Errorf("%s lacks %q; systemd has %s", name, line, got)
			}
		}
	}
}

func TestHostSystemdHasTheLimits(t *testing.T) {
	p := api.Pod{}
	p.Metadata.Project, p.Metadata.Name, p.Metadata.UID = "my-shop", "web-7f3k2", "k3v7qxw2m5n4a6bz"
	p.Spec.Service = "web"
	p.Spec.Template.Containers = []api.Container{
		{Name: "main", StopGrace: 30e9, Resources: api.Resources{CPU: 1505, Memory: 96 << 20}}}
	files, err := Render(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		runtimeUnit(t, f.Name, f.Text)
	}
	tests := map[string][]string{
		PodSlice("my-shop", "web-7f3k2"):                    {"MemoryMax=100663296", "CPUQuotaPerSecUSec=1.505000s", "TasksMax=4096", "Slice=gear-my\\x2dshop.slice"},
		NetUnit("my-shop", "web-7f3k2"):                     {"Type=oneshot", "RemainAfterExit=yes", "Slice=gearrun.slice"},
		ContainerUnit("my-shop", "web-7f3k2", "main", true): {"TimeoutStopUSec=45s", "TimeoutStartUSec=infinity", "RestartUSec=100ms", "KillMode=mixed", "SyslogIdentifier=web-7f3k2", "LogExtraFields=GEAR_PROJECT=my-shop GEAR_SERVICE=web GEAR_POD=web-7f3k2 GEAR_CONTAINER=main", "StartLimitIntervalUSec=0"},
	}
	for unit, lines := range tests {
		got := "\n" + systemctl(t, "show", unit)
		for _, line := range append(lines, "LoadState=loaded", "NeedDaemonReload=no") {
			if !strings.Contains(got, "\n"+line+"\n") {
				t.Errorf("%s lacks %q", unit, line)
			}
		}
	}
}

// What systemd makes of the unit of a program of the host: the words that people wrote are in none of it.
func TestHostSystemdReadsNative(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	p := api.Pod{}
	p.Metadata.Project, p.Metadata.Name, p.Metadata.UID = "my-shop", "native-7f3k2", "k3v7qxw2m5n4a6bz"
	p.Spec.Service = "web"
	command := []string{"/bin/" + hostileText(r), hostileText(r), hostileText(r)}
	p.Spec.Template.Containers = []api.Container{{Name: "main", StopSignal: "SIGRTMIN+3",
		Env:    map[string]string{"HOSTILE": hostileText(r)},
		Native: &api.Native{Command: command, User: "nobody"}}}
	files, err := Render(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		runtimeUnit(t, f.Name, f.Text)
	}
	got := "\n" + systemctl(t, "show", ContainerUnit("my-shop", "native-7f3k2", "main", true))
	for _, line := range []string{"LoadState=loaded", "User=nobody", "NetworkNamespacePath=/run/netns/gear-k3v7qxw2m5n4a6bz", "KillSignal=37",
		"ProtectSystem=strict", "NoNewPrivileges=yes", "PrivateTmp=yes", "Type=exec", `Slice=gear-my\x2dshop-native\x2d7f3k2.slice`,
		"RuntimeDirectory=gear-native/k3v7qxw2m5n4a6bz-main", "RuntimeDirectoryMode=0500"} {
		if !strings.Contains(got, "\n"+line+"\n") {
			t.Errorf("systemd lacks %q", line)
		}
	}
	for key, argv := range map[string]string{"ExecStart": "native", "ExecStartPre": "native-wait", "ExecStartPost": "native-ready", "ExecStopPost": "native-ended"} {
		want := "\n" + key + "={ path=" + Runner + " ; argv[]=" + Runner + " " + argv + " k3v7qxw2m5n4a6bz/main ;"
		if strings.Count(got, "\n"+key+"=") != 1 || !strings.Contains(got, want) {
			t.Errorf("systemd has another %s than %s", key, argv)
		}
	}
}

// A network that fails at first must not fail its container for good: the container's unit goes
// on trying, and comes up with the network.
func TestHostContainerOutlivesAFailedNetwork(t *testing.T) {
	p := api.Pod{}
	p.Metadata.Project, p.Metadata.Name, p.Metadata.UID = "t", "net-1", "k3v7qxw2m5n4a6bz"
	p.Spec.Service = "net"
	p.Spec.Template.Containers = []api.Container{{Name: "main"}}
	files, err := Render(p)
	if err != nil {
		t.Fatal(err)
	}
	// Stands in for gear-run: the network's first try fails, the container needs the network.
	runner := filepath.Join(t.TempDir(), "runner")
	script := `#!/bin/sh
case $1 in
net-up) if [ -e ` + runner + `.tried ]; then touch ` + runner + `.net; else touch ` + runner + `.tried; exit 1; fi ;;
net-down) rm -f ` + runner + `.net ;;
run) [ -e ` + runner + `.net ] || exit 1; systemd-notify --ready --pid=$$; exec sleep 600 ;;
esac
`
	if err := os.WriteFile(runner, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		runtimeUnit(t, f.Name, strings.ReplaceAll(f.Text, Runner, runner))
	}
	unit, net := ContainerUnit("t", "net-1", "main", true), NetUnit("t", "net-1")
	systemctl(t, "start", "--no-block", unit)
	t.Cleanup(func() {
		hostexec.Run(context.WithoutCancel(t.Context()), hostexec.Cmd{Argv: []string{"systemctl", "stop", net, unit}})
	})
	for range 1500 {
		if out, _ := hostexec.Run(t.Context(), hostexec.Cmd{Argv: []string{"systemctl", "is-active", unit, net}}); string(out) == "active\nactive\n" {
			systemctl(t, "stop", net)
			if out, _ := hostexec.Run(t.Context(), hostexec.Cmd{Argv: []string{"systemctl", "is-active", unit, net}}); string(out) != "inactive\ninactive\n" {
				t.Errorf("stopping the network left %q", out)
			}
			return
		}
		hostexec.Run(t.Context(), hostexec.Cmd{Argv: []string{"sleep", "0.1"}})
	}
	t.Error(systemctl(t, "status", "--no-pager", unit, net))
}
