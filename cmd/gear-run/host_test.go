//go:build host

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/engine/enginetest"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/unitgen"
)

// These tests run inside a lab host, with gear-run and gear-oci in /usr/local/bin: real units,
// real systemd, real dockerd.

const hostUID = api.UID("hosttesthosttest")

// sh runs a shell command and gives its output.
func sh(t *testing.T, format string, args ...any) string {
	t.Helper()
	text := fmt.Sprintf(format, args...)
	out, err := exec.Command("sh", "-c", text).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", text, err, out)
	}
	return strings.TrimSpace(string(out))
}

// install puts a pod of some containers on this host, without starting it.
func install(t *testing.T, containers ...api.Container) api.Pod {
	t.Helper()
	return installTemplate(t, api.PodTemplate{Containers: containers, Volumes: []api.Volume{{Name: "data"}}})
}

func installTemplate(t *testing.T, template api.PodTemplate) api.Pod {
	t.Helper()
	enginetest.ImportImage(t)
	pod := api.Pod{
		Header: api.Header{Kind: api.KindPod, Metadata: api.Metadata{Name: "web-7f3k2", Project: "my-shop", UID: hostUID}},
		Spec:   api.PodSpec{Service: "web", Hash: "h1", Template: template},
	}
	dirs := podstate.Host()
	net := podstate.Net{Address: netip.MustParseAddr("10.127.3.4"), HostAddress: netip.MustParseAddr("192.0.2.1"), Domain: "gear.internal"}
	if err := dirs.Save(pod, net, []api.LinkTarget{}); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"hosts", "hostname", "resolv.conf"} {
		if err := os.WriteFile(filepath.Join(dirs.Pod(hostUID), f), []byte("# "+f+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	files, err := unitgen.Render(pod)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.WriteFile("/etc/systemd/system/"+f.Name, []byte(f.Text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		// Containers first: a slice that is stopped before them waits out what ignores SIGTERM.
		for _, f := range slices.Backward(files) {
			_ = exec.Command("systemctl", "stop", f.Name).Run()
			_ = os.Remove("/etc/systemd/system/" + f.Name)
		}
		_ = exec.Command("systemctl", "daemon-reload").Run()
		_ = dirs.Remove(hostUID)
	})
	sh(t, "systemctl daemon-reload")
	return pod
}

func container(name api.Name, script string) api.Container {
	return api.Container{Name: name, Image: "bb:1", Command: []string{"/bin/sh", "-c", script}, StopGrace: api.Duration(time.Second)}
}

const (
	mainUnit = "gear-my-shop-web-7f3k2.service"
	netUnit  = "gear-my-shop-web-7f3k2-net.service"
	counter  = "trap 'echo bye; exit 0' TERM; i=0; while true; do i=$((i+1)); echo tick $i; sleep 0.2; done"
)

// until waits for a condition; its absence ends the test.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); {
		if ok() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	state, _ := exec.Command("sh", "-c", "systemctl status --no-pager -l "+mainUnit+"; journalctl --no-pager -n 40; cat /run/gear/pods/*/*.json").CombinedOutput()
	t.Fatalf("waited in vain for %s\n%s", what, state)
}

func state(t *testing.T, c api.Name) api.ContainerStatus {
	t.Helper()
	s, err := podstate.Host().LoadRun(hostUID, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHostPod(t *testing.T) {
	c := container("main", counter)
	c.Resources = api.Resources{Memory: 64 << 20, CPU: 500}
	c.User, c.Mounts = "1234", []api.Mount{{Volume: "data", Path: "/data"}}
	install(t, c)
	t.Cleanup(func() { _ = os.RemoveAll(podstate.Host().Volumes("my-shop", "web") + "/data") })
	time.Sleep(1100 * time.Millisecond) // the journal is read from the second of the start on: nothing of the test before may be in that
	sh(t, "systemctl start %s", mainUnit)
	s := state(t, "main")
	if s.State != api.RunRunning || !s.Ready {
		t.Fatalf("started, but the state is %+v", s)
	}
	pid := sh(t, "docker inspect -f '{{.State.Pid}}' %s", s.ID)

	if in, want := sh(t, "readlink /proc/%s/ns/net", pid), sh(t, "stat -Lc 'net:[%%i]' /run/netns/gear-%s", hostUID); in != want {
		t.Errorf("it runs in %s, want %s", in, want)
	}
	if cg := sh(t, "cat /proc/%s/cgroup", pid); !strings.Contains(cg, `/gear.slice/gear-my\x2dshop.slice/gear-my\x2dshop-web\x2d7f3k2.slice/docker-`) {
		t.Errorf("it is in the cgroups\n%s", cg)
	}
	if got := sh(t, "docker exec %s hostname; docker exec %s cat /etc/hosts", s.ID, s.ID); got != "web-7f3k2\n# hosts" {
		t.Errorf("inside, hostname and hosts are %q", got)
	}
	if got := sh(t, "docker exec %s sh -c 'echo kept > /data/file'; stat -c '%%u:%%g %%s' /var/lib/gear/volumes/my-shop/web/data/file", s.ID); got != "1234:0 5" {
		t.Errorf("what it wrote to its volume is %q", got)
	}
	if caps := sh(t, "grep CapBnd /proc/%s/status", pid); !strings.HasSuffix(caps, "0000000000000400") {
		t.Errorf("it may have %s; want NET_BIND_SERVICE alone", caps)
	}
	until(t, "output in the journal", func() bool {
		out, _ := exec.Command("journalctl", "-q", "-o", "cat", "GEAR_POD=web-7f3k2", "GEAR_CONTAINER=main").Output()
		return strings.Contains(string(out), "tick 3\n")
	})

	survivesDockerd(t, s.ID, pid)
	survivesGearRun(t, s.ID, pid)
	everyLineOnce(t)
	survivesJournald(t)

	sh(t, "systemctl stop %s %s", mainUnit, netUnit)
	if s := state(t, "main"); s.State != api.RunStopped {
		t.Errorf("stopped, but the state is %+v", s)
	}
	if left := sh(t, "docker ps -aq --filter label=dev.gearmesh.uid=%s; ls /run/netns; ls /run/gear/containers; ip -o link | grep gv || true", hostUID); left != "" {
		t.Errorf("left behind: %s", left)
	}
	until(t, "its last words in the journal", func() bool {
		return strings.Contains(sh(t, "journalctl -q -o cat GEAR_POD=web-7f3k2 | tail -5"), "bye")
	})
}

// survivesDockerd kills dockerd: the container and its gear-run go on.
func survivesDockerd(t *testing.T, id, pid string) {
	t.Helper()
	supervisor := sh(t, "systemctl show -P MainPID %s", mainUnit)
	sh(t, "systemctl kill -s KILL docker.service")
	until(t, "EngineDown or a dockerd that is back", func() bool {
		return state(t, "main").Reason == api.ReasonEngineDown || exec.Command("docker", "version").Run() == nil
	})
	until(t, "dockerd", func() bool {
		_ = exec.Command("systemctl", "start", "docker.service").Run()
		return exec.Command("docker", "version").Run() == nil
	})
	until(t, "a state without EngineDown", func() bool { return state(t, "main").Reason == "" })
	if got := sh(t, "docker inspect -f '{{.State.Pid}}' %s", id); got != pid {
		t.Errorf("the container has pid %s, had %s", got, pid)
	}
	if got := sh(t, "systemctl show -P MainPID %s", mainUnit); got != supervisor {
		t.Errorf("gear-run has pid %s, had %s", got, supervisor)
	}
}

// survivesGearRun kills gear-run: systemd starts another one, which adopts the container.
func survivesGearRun(t *testing.T, id, pid string) {
	t.Helper()
	supervisor := sh(t, "systemctl show -P MainPID %s", mainUnit)
	sh(t, "kill -9 %s", supervisor)
	until(t, "the next gear-run", func() bool {
		now := strings.Fields(sh(t, "systemctl show -P MainPID -P ActiveState %s", mainUnit))
		return len(now) == 2 && now[0] != supervisor && now[1] == "active"
	})
	if got := sh(t, "docker inspect -f '{{.State.Pid}}' %s", id); got != pid {
		t.Errorf("the container has pid %s, had %s", got, pid)
	}
	if n := sh(t, "docker ps -aq --filter label=dev.gearmesh.uid=%s | wc -l", hostUID); n != "1" {
		t.Errorf("there are %s copies", n)
	}
	if s := state(t, "main"); s.ID != id || !s.Ready || s.Restarts != 0 {
		t.Errorf("the state is %+v", s)
	}
}

// survivesJournald stops and starts journald, which drops every stream: lines of after that are there.
func survivesJournald(t *testing.T) {
	t.Helper()
	sh(t, "systemctl stop systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket; sleep 1; systemctl start systemd-journald.service")
	since := sh(t, "date +%%s")
	until(t, "output after a restart of journald", func() bool {
		out, _ := exec.Command("journalctl", "-q", "-o", "cat", "GEAR_POD=web-7f3k2", "GEAR_CONTAINER=main", "--since=@"+since).Output()
		return strings.Contains(string(out), "tick ")
	})
}

// everyLineOnce looks for gaps and doubles in the journal, once it has ten lines. They are in order too, but for the place where one
// gear-run was killed: journald reads its stream and the next one's side by side.
func everyLineOnce(t *testing.T) {
	t.Helper()
	since := startOf(t)
	var ticks []int
	until(t, "ten lines in the journal, and none missing before them", func() bool {
		ticks = nil
		for line := range strings.Lines(sh(t, "journalctl -q -o cat GEAR_POD=web-7f3k2 --since=@%d", since)) {
			var n int
			if _, err := fmt.Sscanf(line, "tick %d\n", &n); err == nil {
				ticks = append(ticks, n)
			}
		}
		return len(ticks) >= 10 && slices.Max(ticks) == len(ticks)
	})
	back := 0
	for i := range ticks[1:] {
		if ticks[i+1] < ticks[i] {
			back++
		}
	}
	if once := slices.Compact(slices.Sorted(slices.Values(ticks))); len(once) != len(ticks) || back > 1 {
		t.Errorf("the journal has the lines %v; want each once, in order", ticks)
	}
}

func startOf(t *testing.T) int64 { return state(t, "main").Started.Unix() }

func TestHostEnds(t *testing.T) {
	oom := container("oom", "exec tail /dev/zero")
	oom.Resources.Memory = 16 << 20
	install(t, container("main", "echo dying; exit 7"), oom)
	sh(t, "systemctl start --no-block %s gear-my-shop-web-7f3k2-oom.service", mainUnit)
	until(t, "three ends", func() bool { return state(t, "main").Restarts >= 2 })
	if s := state(t, "main"); s.Reason != api.ReasonExited || s.ExitCode != 7 || !strings.Contains(s.Message, "dying") {
		t.Errorf("the state is %+v", s)
	}
	until(t, "systemd's word of the exit code", func() bool { return strings.Contains(sh(t, "journalctl -q -u %s -o cat -n 200", mainUnit), "status=7") })
	until(t, "OOMKilled", func() bool { return state(t, "oom").Reason == api.ReasonOOMKilled })
}

// One start, from the network to a running process, against a bare docker run.
func TestHostStartLatency(t *testing.T) {
	install(t, container("main", "sleep 99"))
	sh(t, "systemctl start %s && systemctl stop %s %s", mainUnit, mainUnit, netUnit)
	var ours, bare []time.Duration
	for range 7 {
		start := time.Now()
		sh(t, "systemctl start %s", mainUnit)
		ours = append(ours, time.Since(start))
		sh(t, "systemctl stop %s %s", mainUnit, netUnit)
		start = time.Now()
		sh(t, "docker run -d --name bare --network host bb:1 sleep 99")
		bare = append(bare, time.Since(start))
		sh(t, "docker rm -f bare")
	}
	slices.Sort(ours)
	slices.Sort(bare)
	t.Logf("start of a pod %v, docker run --network host %v, ratio %.2f (medians of 7)", ours[3], bare[3], float64(ours[3])/float64(bare[3]))
	sh(t, "systemctl start %s", mainUnit)
	t.Logf("gear-run: %s", strings.ReplaceAll(sh(t, "grep -E 'Private_Dirty|^Pss:' /proc/$(systemctl show -P MainPID %s)/smaps_rollup", mainUnit), "\n", " "))
	if _, err := os.Stat("/run/netns/gear-" + string(hostUID)); errors.Is(err, os.ErrNotExist) {
		t.Error("no namespace")
	}
}
