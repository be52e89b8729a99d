//go:build host

package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/api"
)

const pidsUnit = "gear-my-shop-web-7f3k2-pids.service"

func unitOf(c string) string { return "gear-my-shop-web-7f3k2-" + c + ".service" }

// isUp tells whether units are all active.
func isUp(units ...string) bool {
	return exec.Command("systemctl", append([]string{"is-active", "--quiet"}, units...)...).Run() == nil
}

// Two init containers in order, the second one failing at first; then db, and main after it.
func TestHostOrderOfStart(t *testing.T) {
	main, db := container("main", "echo main started; exec sleep 1000"), container("db", "echo db started; sleep 2; : > /up; exec sleep 1000")
	main.After = []api.Name{"db"}
	db.Ready = &api.Check{Command: []string{"/bin/sh", "-c", "test -e /up"}}
	seed := container("seed", "echo seed started; if [ -e /data/once ]; then exit 0; fi; : > /data/once; exit 4")
	seed.Mounts = []api.Mount{{Volume: "data", Path: "/data"}}
	installTemplate(t, api.PodTemplate{
		InitContainers: []api.Container{container("schema", "echo schema started; sleep 1"), seed},
		Containers:     []api.Container{main, db},
		Volumes:        []api.Volume{{Name: "data"}},
	})
	sh(t, "rm -rf /var/lib/gear/volumes/my-shop")
	t.Cleanup(func() { _ = exec.Command("rm", "-rf", "/var/lib/gear/volumes/my-shop").Run() })
	since := sh(t, "date +%%s")
	sh(t, "systemctl start --no-block %s %s", mainUnit, unitOf("db"))
	until(t, "the pod to be up", func() bool {
		return isUp(mainUnit, unitOf("db"), unitOf("schema"), unitOf("seed")) && state(t, "main").Ready
	})
	var order []string
	until(t, "main's word in the journal", func() bool {
		order = nil
		for line := range strings.Lines(sh(t, "journalctl -q -o cat GEAR_POD=web-7f3k2 --since=@%s", since)) {
			if name, ok := strings.CutSuffix(strings.TrimSpace(line), " started"); ok && !strings.Contains(name, " ") {
				order = append(order, name)
			}
		}
		return slices.Contains(order, "main")
	})
	if got := strings.Join(order, " "); got != "schema seed seed db main" {
		t.Errorf("started in the order %q", got)
	}
	if s := state(t, "seed"); s.State != api.RunDone || !s.Init {
		t.Errorf("seed is %+v", s)
	}
	// One that restarts alone restarts alone.
	before := state(t, "db").ID
	sh(t, "docker kill %s", state(t, "main").ID)
	until(t, "main to run again", func() bool { s := state(t, "main"); return s.Restarts == 1 && s.Ready })
	if state(t, "db").ID != before || state(t, "seed").State != api.RunDone {
		t.Errorf("main's restart touched others: %+v %+v", state(t, "db"), state(t, "seed"))
	}
}

// processes gives the command lines that one sees from inside a container.
func processes(t *testing.T, c api.Name) string {
	t.Helper()
	return strings.ReplaceAll(sh(t, "docker exec %s sh -c 'cat /proc/[0-9]*/cmdline'", state(t, c).ID), "\x00", " ")
}

func TestHostSharedProcesses(t *testing.T) {
	installTemplate(t, api.PodTemplate{ShareProcesses: true,
		Containers: []api.Container{container("main", "exec sleep 4321"), container("shell", "exec sleep 1234")}})
	sh(t, "systemctl start %s %s", mainUnit, unitOf("shell"))
	shell := state(t, "shell").ID
	if got := processes(t, "shell"); !strings.Contains(got, "sleep 4321") || !strings.Contains(got, "pids-init") {
		t.Errorf("from the shell one sees\n%s", got)
	}
	// The first container may end; the other one stays, and sees the next one.
	sh(t, "docker kill %s", state(t, "main").ID)
	until(t, "main to run again", func() bool { s := state(t, "main"); return s.Restarts == 1 && s.Ready })
	if s := state(t, "shell"); s.ID != shell || s.Restarts != 0 {
		t.Errorf("the shell is %+v; want it untouched", s)
	}
	if got := processes(t, "shell"); strings.Count(got, "sleep 4321") != 1 {
		t.Errorf("the shell sees of the new main\n%s", got)
	}
	// When the namespace itself ends, all come back in a new one.
	sh(t, "systemctl kill -s KILL %s", pidsUnit)
	until(t, "both to be back", func() bool {
		m, s := state(t, "main"), state(t, "shell")
		return isUp(pidsUnit, mainUnit, unitOf("shell")) && s.ID != shell && s.ID != "" && m.Ready && s.Ready &&
			exec.Command("docker", "exec", s.ID, "true").Run() == nil
	})
	if got := processes(t, "shell"); !strings.Contains(got, "sleep 4321") {
		t.Errorf("in the new namespace one sees\n%s", got)
	}
	sh(t, "systemctl stop %s %s %s %s", mainUnit, unitOf("shell"), pidsUnit, netUnit)
	if left := sh(t, "ls /run/gear/pidns; pgrep -f '[p]ids-init' || true"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

func TestHostLiveness(t *testing.T) {
	c := container("main", "echo yes > /live; sleep 3; : > /live; exec sleep 1000")
	c.Live = &api.Check{Command: []string{"/bin/sh", "-c", "test -s /live"}, Interval: api.Duration(time.Second), Delay: api.Duration(time.Second)}
	install(t, c)
	sh(t, "systemctl start %s", mainUnit)
	until(t, "a second run", func() bool { return state(t, "main").Restarts >= 1 })
	if s := state(t, "main"); s.Reason != api.ReasonUnhealthy || !strings.Contains(s.Message, "does not work any more") {
		t.Errorf("the state is %+v", s)
	}
}

// The kernel kills a child of the container, whose first process lives on: the journal says so.
func TestHostOOMOfAChild(t *testing.T) {
	c := container("main", "while true; do tail /dev/zero; sleep 1; done")
	c.Resources.Memory = 16 << 20
	install(t, c)
	sh(t, "systemctl start %s", mainUnit)
	until(t, "a word of it", func() bool {
		out, _ := exec.Command("journalctl", "-q", "-o", "cat", "-u", mainUnit).Output()
		return strings.Contains(string(out), "over the memory limit of 16Mi") && strings.Contains(string(out), "reason=OOMKilled killed=")
	})
	if s := state(t, "main"); s.State != api.RunRunning || s.Restarts != 0 {
		t.Errorf("the state is %+v", s)
	}
}

// Killed at any moment of the start, gear-run never leaves a second copy, and the pod comes up.
func TestHostGearRunKilledAtAnyMoment(t *testing.T) {
	install(t, container("main", counter))
	for i := range 8 {
		sh(t, "systemctl start --no-block %s", mainUnit)
		time.Sleep(time.Duration(i) * 60 * time.Millisecond)
		if pid := sh(t, "systemctl show -P MainPID %s", mainUnit); pid != "0" {
			_ = exec.Command("kill", "-9", pid).Run()
		}
		until(t, "one container that runs and is known", func() bool {
			ids := strings.Fields(sh(t, "docker ps -q --no-trunc --filter label=dev.gearmesh.uid=%s", hostUID))
			if len(ids) > 1 {
				t.Fatalf("there are %d copies", len(ids))
			}
			s := state(t, "main")
			return len(ids) == 1 && s.ID == ids[0] && s.State == api.RunRunning && isUp(mainUnit)
		})
		if all := strings.Fields(sh(t, "docker ps -aq --filter label=dev.gearmesh.uid=%s", hostUID)); len(all) != 1 {
			t.Errorf("there are %d containers, dead ones included", len(all))
		}
		sh(t, "systemctl stop %s", mainUnit)
	}
}

// server answers each connection on 8080 with its user's id, and cannot write where it must not.
const server = `use IO::Socket::INET; $| = 1; print "args: @ARGV\n";
print "wrote /etc\n" if open(F, ">", "/etc/gear-native"); print "saw pods\n" if opendir(D, "/var/lib/gear/pods"); print "links at $ENV{GEAR_LINKS_SOCKET}\n" if opendir(D, "/run/gearmesh");
print "tmp\n" if open(F, ">", "/tmp/x");
sleep 1; $s = IO::Socket::INET->new(Listen => 5, LocalPort => 8080, ReuseAddr => 1) or die; while ($c = $s->accept) { print $c "hi $<\n"; close $c }`

// A program of the host beside a container: in the pod's network and slice, and sandboxed.
func TestHostNative(t *testing.T) {
	native := api.Container{Name: "proxy", Native: &api.Native{Command: []string{"/usr/bin/perl", "-e", server, "%n", "$HOME", `a "b"\`}},
		Ready: &api.Check{TCP: &api.TCPCheck{Port: 8080}}, StopGrace: api.Duration(time.Second), Resources: api.Resources{Memory: 64 << 20}}
	main := container("main", "exec sleep 1000")
	main.After = []api.Name{"proxy"}
	install(t, main, native)
	unit := unitOf("proxy")
	since := sh(t, "date +%%s")
	sh(t, "systemctl start %s %s", mainUnit, unit)
	s := state(t, "proxy")
	if s.State != api.RunRunning || !s.Ready || s.Unit != unit {
		t.Errorf("the program is %+v", s)
	}
	pid := sh(t, "systemctl show -P MainPID %s", unit)
	if in, want := sh(t, "readlink /proc/%s/ns/net", pid), sh(t, "stat -Lc 'net:[%%i]' /run/netns/gear-%s", hostUID); in != want {
		t.Errorf("it runs in %s, want %s", in, want)
	}
	if cg := sh(t, "cat /proc/%s/cgroup", pid); !strings.Contains(cg, `/gear-my\x2dshop-web\x2d7f3k2.slice/`+unit) {
		t.Errorf("it is in the cgroups\n%s", cg)
	}
	if got := sh(t, "ip netns exec gear-%s perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(\"127.0.0.1:8080\"); print <$s>'", hostUID); !strings.HasPrefix(got, "hi 6") {
		t.Errorf("it answers %q; want a user of its own, of systemd's 61184 to 65519", got)
	}
	out := ""
	until(t, "its last word before it serves, in the journal", func() bool {
		out = sh(t, "journalctl -q -o cat GEAR_POD=web-7f3k2 GEAR_CONTAINER=proxy --since=@%s", since)
		return strings.Contains(out+"\n", "\ntmp\n")
	})
	if !strings.Contains(out, `args: %n $HOME a "b"\`+"\n") || !strings.Contains(out, "tmp") || !strings.Contains(out, "links at /run/gearmesh/links.sock") || strings.Contains(out, "wrote") || strings.Contains(out, "saw") {
		t.Errorf("it wrote\n%s", out)
	}
	sh(t, "kill -9 %s", pid)
	until(t, "the next run", func() bool { s := state(t, "proxy"); return s.Restarts == 1 && s.Ready })
	if s := state(t, "proxy"); s.Reason != api.ReasonExited || !strings.Contains(s.Message, "SIGKILL") {
		t.Errorf("its next run says of the last one %+v", s)
	}
	sh(t, "systemctl stop %s", unit)
	if s := state(t, "proxy"); s.State != api.RunStopped {
		t.Errorf("stopped, it is %+v", s)
	}
	if state(t, "main").Restarts != 0 {
		t.Error("the container was restarted with it")
	}
}
