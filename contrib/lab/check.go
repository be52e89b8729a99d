package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"gearmesh.dev/internal/hostexec"
)

// minInotify is the least fs.inotify.max_user_instances for a lab: a systemd
// host takes about ten, and all hosts share root's.
const minInotify = 4096

// commandPackage says which Debian package brings a command the lab runs.
var commandPackage = map[string]string{
	"ip": "iproute2", "bridge": "iproute2", "nsenter": "util-linux", "unshare": "util-linux",
	"setsid": "util-linux", "flock": "util-linux", "pivot_root": "util-linux", "sysctl": "procps",
	"mmdebstrap": "mmdebstrap", "docker-registry": "docker-registry",
}

// checkMachine finds out what this machine lacks for a lab, all of it at once.
func (l *Lab) checkMachine(ctx context.Context) error {
	var errs []error
	for command, pkg := range commandPackage {
		if !onPath(command) {
			errs = append(errs, fmt.Errorf("command %q is missing: apt-get install %s", command, pkg))
		}
	}
	for _, ns := range []string{"mnt", "pid", "uts", "ipc", "net", "cgroup"} {
		if !exists("/proc/self/ns/" + ns) {
			errs = append(errs, fmt.Errorf("this kernel has no %s namespaces", ns))
		}
	}
	if _, err := ownHierarchies(); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, checkOverlay(ctx))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("this machine cannot run a lab yet:\n%w", err)
	}
	return l.raiseInotify(ctx)
}

func onPath(command string) bool {
	for dir := range strings.SplitSeq(hostexec.Path, ":") {
		if _, err := exec.LookPath(dir + "/" + command); err == nil {
			return true
		}
	}
	return false
}

// checkOverlay looks for the overlay filesystem, and loads it if it is a module.
func checkOverlay(ctx context.Context) error {
	for range 2 {
		text, err := os.ReadFile("/proc/filesystems")
		if err != nil {
			return fmt.Errorf("looking for the overlay filesystem: %w", err)
		}
		if strings.Contains(string(text), "\toverlay\n") {
			return nil
		}
		// Its failure shows in the second look.
		_, _ = hostexec.Run(ctx, hostexec.Cmd{Argv: []string{"modprobe", "overlay"}})
	}
	return errors.New("this kernel has no overlay filesystem (CONFIG_OVERLAY_FS): load the module or use another kernel")
}

// checkNetfilter tries the hosts' tables in a host's own namespace, before
// dockerd stumbles over them.
func checkNetfilter(ctx context.Context, h host, tree string) error {
	argv := []string{"chroot", tree, "iptables", "-w", "-t", "nat", "-S"}
	if _, err := hostexec.Run(ctx, hostexec.Cmd{Argv: argv, NetNS: h.netns()}); err != nil {
		return fmt.Errorf("the kernel lacks NAT for the hosts (try \"modprobe -a nf_tables nf_nat nft_compat\"): %w", err)
	}
	return nil
}

func (l *Lab) raiseInotify(ctx context.Context) error {
	const file = "/proc/sys/fs/inotify/max_user_instances"
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading the inotify limit: %w", err)
	}
	if have, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && have >= minInotify {
		return nil
	}
	start := time.Now()
	if err := setSysctl(ctx, "", "fs.inotify.max_user_instances", strconv.Itoa(minInotify)); err != nil {
		return err
	}
	l.say("", fmt.Sprintf("raised fs.inotify.max_user_instances to %d on this machine", minInotify), start)
	return nil
}
