package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/hostexec"
)

// The oldest versions that have what we use.
const (
	// minSystemd is the first with Restart= for oneshot services, which pod networks need.
	minSystemd = 244
	minDocker  = 20
	minDockerB = 10
)

// prerequisite is a Debian package and the commands of it that we run.
type prerequisite struct {
	pkg      string
	commands []string // one of them is enough
}

func (i *installer) prerequisites() []prerequisite {
	need := []prerequisite{
		{"iptables", []string{"iptables-restore"}},
		{"conntrack", []string{"conntrack"}},
		{"docker.io", []string{"dockerd"}},
		{"runc", []string{"runc", "crun"}},
	}
	if i.Labels[api.RouterLabel] == "true" {
		need = append(need, prerequisite{"haproxy", []string{"haproxy"}})
	}
	return need
}

// check finds out whether the host has what we need, and says all that it lacks at once.
func (i *installer) check(ctx context.Context) (string, error) {
	if i.Root == "/" && os.Geteuid() != 0 {
		return "", errors.New("root is needed; run it again with sudo")
	}
	if err := i.checkSystemd(ctx); err != nil {
		return "", err
	}
	if missing := i.missing(); len(missing) > 0 {
		return "", fmt.Errorf("this host lacks %s; install it with: apt-get install -y %s",
			strings.Join(missing, ", "), strings.Join(missing, " "))
	}
	if !i.exists("/sys/fs/cgroup/cgroup.controllers") && !i.exists("/sys/fs/cgroup/memory") {
		return "", errors.New("the kernel has no memory controller in /sys/fs/cgroup, which pods' limits need; boot with cgroup_enable=memory")
	}
	return "", i.checkDocker(ctx)
}

func (i *installer) exists(p string) bool {
	_, err := os.Stat(i.path(p))
	return err == nil
}

func (i *installer) missing() []string {
	var out []string
	for _, p := range i.prerequisites() {
		if !slices.ContainsFunc(p.commands, i.hasCommand) {
			out = append(out, p.pkg)
		}
	}
	return out
}

func (i *installer) hasCommand(name string) bool {
	for dir := range strings.SplitSeq(hostexec.Path, ":") {
		if info, err := os.Stat(i.path(filepath.Join(dir, name))); err == nil && info.Mode()&0o111 != 0 {
			return true
		}
	}
	return false
}

var systemdVersion = regexp.MustCompile(`^systemd (\d+)`)

func (i *installer) checkSystemd(ctx context.Context) error {
	if !i.exists("/run/systemd/system") { // sd_booted(3)
		return errors.New("systemd is not this host's process 1; boot it with systemd, or try gear lab")
	}
	out, err := i.Runner.Run(ctx, "systemctl", "--version")
	if err != nil {
		return err
	}
	m := systemdVersion.FindStringSubmatch(out)
	if m == nil {
		return fmt.Errorf("systemctl --version says %.40q, which names no version", out)
	}
	if v, _ := strconv.Atoi(m[1]); v < minSystemd {
		return fmt.Errorf("systemd is version %d; %d or newer is needed: upgrade the distribution", v, minSystemd)
	}
	return nil
}

var dockerVersion = regexp.MustCompile(`^(\d+)\.(\d+)`)

func (i *installer) checkDocker(ctx context.Context) error {
	info, err := i.dockerInfo(ctx)
	if err != nil {
		return fmt.Errorf("dockerd does not answer: %w; start it with: systemctl enable --now docker", err)
	}
	m := dockerVersion.FindStringSubmatch(info.ServerVersion)
	if m == nil {
		return fmt.Errorf("dockerd says its version is %.40q, which is none", info.ServerVersion)
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	if major < minDocker || major == minDocker && minor < minDockerB {
		return fmt.Errorf("dockerd is version %s; %d.%d or newer is needed: apt-get install -y docker.io", info.ServerVersion, minDocker, minDockerB)
	}
	if info.CgroupDriver != "systemd" {
		return fmt.Errorf("dockerd uses the cgroup driver %q, with which pods' slices do not bind containers; put "+
			`"exec-opts": ["native.cgroupdriver=systemd"] into /etc/docker/daemon.json and run, when its containers may stop: systemctl restart docker`, info.CgroupDriver)
	}
	if info.Swarm.LocalNodeState == "active" {
		return errors.New("dockerd is part of a swarm, which rules out live-restore: pods would stop with dockerd; leave it with: docker swarm leave")
	}
	return nil
}
