//go:build lab

// The lab's own end-to-end test: it boots real hosts, so it wants root, the
// packages of `make deps`, and with an empty cache two minutes more. The lab it
// makes is called labtest, beside whatever other labs this machine has.
package lab_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/contrib/lab"
)

const labName = "labtest"

// upEnv makes this test binary a process that only brings the lab up, so that
// a test can kill it.
const upEnv = "GEAR_LAB_TEST_UP"

func TestMain(m *testing.M) {
	if os.Getenv(upEnv) == "" {
		os.Exit(m.Run())
	}
	l, err := lab.New(lab.Config{Name: labName, Progress: func(s lab.Step) { fmt.Println(s.Host, s.What) }})
	if err == nil {
		err = l.Up(context.Background(), 2)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// testLab is the lab, down before the test and after it.
func testLab(t *testing.T, c lab.Config) *lab.Lab {
	t.Helper()
	c.Name = labName
	c.Progress = func(s lab.Step) { t.Logf("%-3s %-40s %s", s.Host, s.What, s.Elapsed.Round(time.Millisecond)) }
	l, err := lab.New(c)
	if err != nil {
		t.Fatal(err)
	}
	down := func() {
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	}
	down()
	t.Cleanup(func() {
		down()
		wantNothingLeft(t)
	})
	return l
}

// in runs a command in a host and returns its output.
func in(t *testing.T, l *lab.Lab, host string, argv ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	code, err := l.Exec(t.Context(), host, argv, lab.Streams{Out: &out, Err: &errs})
	if err != nil || code != 0 {
		t.Fatalf("%s: %q: exit %d, %v\n%s%s", host, argv, code, err, &out, &errs)
	}
	return strings.TrimSpace(out.String())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// program builds the test's container program as a static binary.
func program(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hello")
	cmd := exec.Command("go", "build", "-o", file, "./testdata/hello")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	return file
}

func TestLab(t *testing.T) {
	hello := program(t)
	l := testLab(t, lab.Config{Binaries: []string{hello}})
	must(t, l.Up(t.Context(), 2))
	for _, h := range []string{"h1", "h2"} {
		if got := in(t, l, h, "systemctl", "is-system-running"); got != "running" {
			t.Errorf("%s is %q, want running", h, got)
		}
		if got := in(t, l, h, "hello", "binary"); got != "binary" {
			t.Errorf("%s: the binary said %q", h, got)
		}
	}
	t.Run("exec", func(t *testing.T) { testExec(t, l) })
	t.Run("images", func(t *testing.T) { testImages(t, l, hello) })
	t.Run("up again touches nothing", func(t *testing.T) { testUpAgain(t, l) })
	// The partition is seen on the container that power started.
	_ = t.Run("power", func(t *testing.T) { testPower(t, l) }) &&
		t.Run("partition", func(t *testing.T) { testPartition(t, l) })
}

func testExec(t *testing.T, l *lab.Lab) {
	var out bytes.Buffer
	code, err := l.Exec(t.Context(), "h1", []string{"sh", "-c", "cat; exit 7"},
		lab.Streams{In: strings.NewReader("to and fro"), Out: &out})
	if err != nil || code != 7 || out.String() != "to and fro" {
		t.Errorf("got %q, exit %d, %v; want the input back and exit 7", &out, code, err)
	}
	if _, err := l.Exec(t.Context(), "h9", []string{"true"}, lab.Streams{}); err == nil || !strings.Contains(err.Error(), `no host "h9"`) {
		t.Errorf("a host that is not there: %v", err)
	}
	out.Reset()
	code, err = l.Logs(t.Context(), "h1", []string{"-u", "docker", "-n", "5"}, lab.Streams{Out: &out})
	if err != nil || code != 0 || !strings.Contains(out.String(), "dockerd") {
		t.Errorf("logs: exit %d, %v\n%s", code, err, &out)
	}
}

// TestExecCancel: the command ends with the context, not only nsenter.
func TestExecCancel(t *testing.T) {
	l := testLab(t, lab.Config{})
	must(t, l.Up(t.Context(), 1))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := l.Exec(ctx, "h1", []string{"sh", "-c", "echo ready; exec sleep 54321"}, lab.Streams{Out: w})
		done <- err
	}()
	if line, err := bufio.NewReader(r).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("want the context's error")
	}
	if got := in(t, l, "h1", "sh", "-c", "pgrep -fx 'sleep 54321' || echo none"); got != "none" {
		t.Errorf("the command still runs in the host: %q", got)
	}
}

func testImages(t *testing.T, l *lab.Lab, hello string) {
	ref, err := l.Load(t.Context(), lab.Image{Name: "test/hello:1", Binary: hello, Labels: map[string]string{"a": "b"}})
	must(t, err)
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "opt"), 0o755))
	text, err := os.ReadFile(hello)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "opt", "x"), text, 0o755))
	fromDir, err := l.Load(t.Context(), lab.Image{Name: "test/dir:1", Dir: dir, Entrypoint: []string{"/opt/x", "from"}})
	must(t, err)
	for _, h := range []string{"h1", "h2"} {
		if got := in(t, l, h, "docker", "run", "--rm", "--network", "host", ref, "hi"); got != "hi" {
			t.Errorf("%s: host network: %q", h, got)
		}
		if got := in(t, l, h, "docker", "run", "--rm", "-m", "64m", ref, "hi"); got != "hi" {
			t.Errorf("%s: docker's bridge and a limit: %q", h, got)
		}
		if got := in(t, l, h, "docker", "run", "--rm", fromDir, "dir"); got != "from dir" {
			t.Errorf("%s: image from a directory: %q", h, got)
		}
	}
	if got := in(t, l, "h1", "docker", "inspect", "-f", "{{.Config.Labels.a}}", ref); got != "b" {
		t.Errorf("label is %q", got)
	}
}

func pids(t *testing.T, l *lab.Lab) map[string]int {
	t.Helper()
	list, err := l.List(t.Context())
	must(t, err)
	pids := map[string]int{}
	for _, h := range list {
		pids[h.Name] = h.PID
	}
	return pids
}

func testUpAgain(t *testing.T, l *lab.Lab) {
	before := pids(t, l)
	inode := in(t, l, "h1", "stat", "-c", "%i", "/usr/local/bin/hello", "/etc/hosts")
	must(t, l.Up(t.Context(), 2))
	if after := pids(t, l); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("hosts restarted: %v, before %v", after, before)
	}
	if got := in(t, l, "h1", "stat", "-c", "%i", "/usr/local/bin/hello", "/etc/hosts"); got != inode {
		t.Error("unchanged files were written again")
	}
}

func testPower(t *testing.T, l *lab.Lab) {
	const bootID = "/proc/sys/kernel/random/boot_id"
	registry, _, err := l.Addresses()
	must(t, err)
	in(t, l, "h1", "sh", "-c", "echo kept >/var/lib/kept")
	in(t, l, "h1", "docker", "run", "-d", "--restart", "always", "--network", "host",
		registry.String()+"/test/hello:1", "serve", ":7000")
	machine, boot := in(t, l, "h1", "cat", "/etc/machine-id"), in(t, l, "h1", "cat", bootID)
	must(t, l.PowerOff(t.Context(), "h1"))
	if pid := pids(t, l)["h1"]; pid != 0 {
		t.Errorf("h1 still has process 1 = %d", pid)
	}
	if _, err := l.Exec(t.Context(), "h1", []string{"true"}, lab.Streams{}); err == nil || !strings.Contains(err.Error(), "is off") {
		t.Errorf("exec in a host that is off: %v", err)
	}
	must(t, l.Boot(t.Context(), "h1"))
	if got := in(t, l, "h1", "cat", "/var/lib/kept"); got != "kept" {
		t.Errorf("the disk lost %q", got)
	}
	if got := in(t, l, "h1", "cat", "/etc/machine-id"); got != machine {
		t.Errorf("machine-id %q became %q", machine, got)
	}
	if got := in(t, l, "h1", "cat", bootID); got == boot {
		t.Error("two boots have one boot id")
	}
	if got := strings.Count(in(t, l, "h1", "journalctl", "--list-boots", "--quiet"), "\n"); got < 1 {
		t.Error("the journal of the first boot is gone")
	}
	// A host that powers itself off is as good as one whose plug was pulled.
	_, err = l.Exec(t.Context(), "h2", []string{"systemctl", "poweroff", "--force", "--force"}, lab.Streams{})
	must(t, err)
	for pids(t, l)["h2"] != 0 { // the kernel takes a moment to end all its processes
		time.Sleep(10 * time.Millisecond)
	}
	must(t, l.Up(t.Context(), 2))
	if got := in(t, l, "h2", "systemctl", "is-system-running"); got != "running" {
		t.Errorf("h2 is %q", got)
	}
}

// reaches asks the container of h1 for its name, from h2 and from here.
func reaches(t *testing.T, l *lab.Lab) (fromHost, fromHere bool) {
	t.Helper()
	list, err := l.List(t.Context())
	must(t, err)
	code, err := l.Exec(t.Context(), "h2", []string{"bash", "-c", "timeout 3 bash -c 'read -r x </dev/tcp/h1/7000; test $x = h1'"}, lab.Streams{})
	must(t, err)
	conn, err := net.DialTimeout("tcp", list[0].Address.String()+":7000", 3*time.Second)
	if err == nil {
		conn.Close()
	}
	return code == 0, err == nil
}

func testPartition(t *testing.T, l *lab.Lab) {
	want := func(when string, want bool) {
		t.Helper()
		host, here := reaches(t, l)
		for range 20 { // a slow machine may take long to answer; what is cut off never does
			if !want || host && here {
				break
			}
			host, here = reaches(t, l)
		}
		if host != want || here != want {
			t.Errorf("%s: h1 reached from h2 %v, from here %v; want %v", when, host, here, want)
		}
	}
	in(t, l, "h1", "timeout", "180", "sh", "-c", "until bash -c '</dev/tcp/127.0.0.1/7000' 2>/dev/null; do sleep 0.1; done")
	want("before", true)
	must(t, l.Partition(t.Context(), "h1"))
	want("cut", false)
	list, err := l.List(t.Context())
	must(t, err)
	if list[0].State != lab.Partitioned || list[1].State != lab.Running {
		t.Errorf("list says %+v", list)
	}
	if got := in(t, l, "h1", "cat", "/sys/class/net/eth0/carrier"); got != "1" {
		t.Error("the host noticed: its carrier is gone")
	}
	must(t, l.Heal(t.Context()))
	want("healed", true)
}

// TestKilledUp kills Up at several points and wants Down to leave nothing.
func TestKilledUp(t *testing.T) {
	l := testLab(t, lab.Config{})
	for _, point := range []string{"registry at", "h1 started", "running"} {
		t.Run(point, func(t *testing.T) {
			killUpAt(t, point)
			must(t, l.Down(t.Context()))
			wantNothingLeft(t)
		})
	}
	// And Up itself copes with what a killed Up left.
	killUpAt(t, "registry at")
	must(t, l.Up(t.Context(), 2))
}

func killUpAt(t *testing.T, point string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), upEnv+"=1")
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), point) {
			break
		}
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed: the error is what we asked for
}

// wantNothingLeft looks at this machine for anything with the lab's name.
func wantNothingLeft(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{"/run/netns/gl-" + labName + "*", "/sys/fs/cgroup/gl-" + labName + "*",
		"/sys/fs/cgroup/*/gl-" + labName + "*", "/sys/class/net/gl-" + labName + "*", "/var/lib/gear-lab/" + labName} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			t.Errorf("left behind: %q", found)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	if strings.Contains(string(mounts), "gear-lab/"+labName) {
		t.Error("a mount is left behind")
	}
	cmdlines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range cmdlines {
		if text, _ := os.ReadFile(file); bytes.Contains(text, []byte("gear-lab/"+labName+"/")) {
			t.Errorf("process left behind: %q", text)
		}
	}
}
