package lab

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gearmesh.dev/internal/hostexec"
)

//go:embed build-tree.sh
var buildTree string

// TreePackages returns the Debian packages every lab host has.
func TreePackages() []string {
	return []string{
		"bind9-dnsutils", "ca-certificates", "conntrack", "crun", "curl", "dbus", "docker.io",
		"e2fsprogs", "haproxy", "iproute2", "iptables", "iputils-ping", "kmod", "less",
		"netcat-openbsd", "nftables", "procps", "runc", "systemd", "systemd-resolved", "systemd-sysv", "util-linux",
	}
}

// treePackages is the sorted list for this lab.
func (l *Lab) treePackages() []string {
	all := append(TreePackages(), l.cfg.Packages...)
	slices.Sort(all)
	return slices.Compact(all)
}

// treeDir names the tree after all it is made of, so a change makes a new one.
func (l *Lab) treeDir() string {
	sum := sha256.Sum256([]byte(buildTree + "\n" + l.cfg.Suite + "\n" + strings.Join(l.treePackages(), ",")))
	return filepath.Join(l.cfg.CacheDir, fmt.Sprintf("tree-%x", sum[:8]))
}

// ensureTree builds the root tree unless the cache has it, and returns it. The
// tree appears whole or not at all.
func (l *Lab) ensureTree(ctx context.Context) (string, error) {
	target, start := l.treeDir(), time.Now()
	if exists(target) {
		return target, nil
	}
	if len(l.cfg.AptSources) == 0 {
		return "", errors.New("no apt sources on this machine; name files that say where Debian packages come from")
	}
	if err := os.MkdirAll(l.cfg.CacheDir, 0o755); err != nil {
		return "", fmt.Errorf("making the cache: %w", err)
	}
	l.say("", "building the hosts' root tree, once; this takes a minute or two", start)
	argv := []string{"flock", filepath.Join(l.cfg.CacheDir, "build.lock"), "sh", "-c", buildTree, "build-tree",
		target, l.cfg.Suite, strings.Join(l.treePackages(), ",")}
	if _, err := hostexec.Run(ctx, hostexec.Cmd{Argv: append(argv, l.cfg.AptSources...)}); err != nil {
		return "", fmt.Errorf("building the root tree: %w", shorten(err))
	}
	l.say("", "built the hosts' root tree", start)
	return target, nil
}

// shorten drops the script from a script's error: the end is what matters.
func shorten(err error) error {
	var exit *hostexec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	lines := strings.Split(exit.Stderr, "\n")
	return fmt.Errorf("%s: %s", exit.State, strings.Join(lines[max(0, len(lines)-12):], "\n"))
}
