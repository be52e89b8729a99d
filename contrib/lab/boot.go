package lab

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gearmesh.dev/internal/hostexec"
)

//go:embed start-host.sh
var startHost string

// bootTime is how long a host may take to reach its state "running".
const bootTime = 3 * time.Minute

// start boots a host that is wiped and furnished, and waits until it runs.
func (l *Lab) start(ctx context.Context, h host, s state) error {
	begin := time.Now()
	if err := l.plugIn(ctx, h, s.Subnet); err != nil {
		return err
	}
	if err := checkNetfilter(ctx, h, s.Tree); err != nil {
		return err
	}
	if err := l.launch(ctx, h, s); err != nil {
		return err
	}
	l.say(h.name, "started", begin)
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	if err := awaitRunning(ctx, h); err != nil {
		return fmt.Errorf("booting host %q: %w%s", h.name, err, bootLog(h))
	}
	l.say(h.name, "running", begin)
	return nil
}

// launch runs start-host.sh as process 1 of the host's new namespaces. setsid
// forks, so the host belongs to nobody here and outlives this process.
func (l *Lab) launch(ctx context.Context, h host, s state) error {
	hs, err := ownHierarchies()
	if err != nil {
		return err
	}
	if err := makeCgroups(hs, h.scope); err != nil {
		return err
	}
	script := h.file("start-host.sh")
	if err := os.WriteFile(script, []byte(startHost), 0o644); err != nil {
		return fmt.Errorf("starting host %q: %w", h.name, err)
	}
	_, err = hostexec.Run(ctx, hostexec.Cmd{
		// The shell in front gives away this process's pipes.
		Argv: []string{"sh", "-c", `exec setsid -f "$@" </dev/null >"$LAB_DIR/boot.log" 2>&1`, "sh",
			"unshare", "-m", "-p", "-u", "-i", "--fork", "--propagation", "private", "sh", script},
		// Born in the host's network namespace, it can be found there at any moment.
		NetNS: h.netns(),
		Env:   startEnv(h, s.Tree, hs),
	})
	if err != nil {
		return fmt.Errorf("starting host %q: %w", h.name, err)
	}
	return nil
}

// startEnv is what start-host.sh is told.
func startEnv(h host, tree string, hs []hierarchy) []string {
	var dirs, mounts []string
	for _, c := range hs {
		dirs = append(dirs, filepath.Join(c.Dir, h.scope))
		mounts = append(mounts, c.Type+" "+c.Options+" "+c.Name)
	}
	return []string{
		"LAB_HOST=" + h.name, "LAB_DIR=" + h.dir, "LAB_TREE=" + tree,
		"LAB_DISK_DIRS=" + strings.Join(diskDirs(), "\n"),
		"LAB_CGROUPS=" + strings.Join(dirs, "\n"), "LAB_MOUNTS=" + strings.Join(mounts, "\n"),
	}
}

// awaitRunning waits for systemd to say "running". Any other final state is an
// error that names the failed units.
func awaitRunning(ctx context.Context, h host) error {
	p, err := awaitManager(ctx, h)
	if err != nil {
		return err
	}
	out, err := hostexec.Run(ctx, hostexec.Cmd{Argv: enter(p, "systemctl", "is-system-running", "--wait")})
	switch got := strings.TrimSpace(string(out)); got {
	case "running":
		return nil
	case "":
		return fmt.Errorf("asking systemd for its state: %w", err)
	default:
		failed, _ := hostexec.Run(ctx, hostexec.Cmd{Argv: enter(p, "systemctl", "list-units", "--failed", "--plain", "--no-legend")})
		return fmt.Errorf("systemd is %q, not \"running\"; failed units:\n%s", got, failed)
	}
}

// awaitManager waits until the host's systemd listens on its private socket.
func awaitManager(ctx context.Context, h host) (process, error) {
	seen := false
	for {
		p, ok := h.running()
		if seen && !ok {
			return p, errors.New("its process 1 ended")
		}
		seen = seen || ok
		if ok && exists(fmt.Sprintf("/proc/%d/root/run/systemd/private", p.pid)) {
			return p, nil
		}
		if !ok && len(netnsPIDs(h.netns())) == 0 {
			// setsid has forked by now: nothing in the namespace means
			// that unshare gave up.
			if _, ok := h.running(); !ok {
				return p, errors.New("it did not start")
			}
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return p, fmt.Errorf("waiting for systemd: %w", err)
		}
	}
}

// bootLog returns what start-host.sh complained about, ready to append.
func bootLog(h host) string {
	text, err := os.ReadFile(h.file("boot.log"))
	if err != nil || len(strings.TrimSpace(string(text))) == 0 {
		return ""
	}
	return "\n" + strings.TrimSpace(string(text))
}

// wipe removes all that a host has in the kernel, whatever state it is in. Its
// disk stays.
func (l *Lab) wipe(ctx context.Context, h host) error {
	hs, err := ownHierarchies()
	if err != nil {
		return err
	}
	// Process 1 first: it takes the rest along. Then what has not become
	// process 1 yet, or was cut off half-way.
	if err := killAll(ctx, h.recordedPID); err != nil {
		return fmt.Errorf("stopping host %q: %w", h.name, err)
	}
	err = killAll(ctx, func() []int { return append(cgroupPIDs(hs, h.scope), netnsPIDs(h.netns())...) })
	if err != nil {
		return fmt.Errorf("stopping host %q: %w", h.name, err)
	}
	if err := os.Remove(h.file("pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("stopping host %q: %w", h.name, err)
	}
	if err := l.unplug(ctx, h); err != nil {
		return err
	}
	return removeCgroups(ctx, hs, h.scope)
}

// registryAddr is where the lab's registry listens.
func registryAddr(subnet netip.Prefix) netip.AddrPort {
	return netip.AddrPortFrom(nth(subnet, switchByte), registryPort)
}
