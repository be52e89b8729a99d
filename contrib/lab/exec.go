package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"gearmesh.dev/internal/hostexec"
)

// Streams are a command's standard streams. Files are handed to the command as
// they are, so a terminal stays a terminal.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// enter is the command line that runs argv inside a host, as root.
func enter(p process, argv ...string) []string {
	return append([]string{"nsenter", "-t", strconv.Itoa(p.pid), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--"}, argv...)
}

// Exec runs argv inside a host and returns its exit status; err says that it
// could not be run at all. When ctx ends, the command is killed.
func (l *Lab) Exec(ctx context.Context, hostName string, argv []string, s Streams) (int, error) {
	if len(argv) == 0 {
		return 0, errors.New("running a command in a lab host: no command given")
	}
	p, err := l.runningHost(hostName)
	if err != nil {
		return 0, err
	}
	full := enter(p, argv...)
	cmd := exec.CommandContext(ctx, full[0], full[1:]...)
	cmd.Env = append([]string{"PATH=" + hostexec.Path, "HOME=/root", "LANG=C.UTF-8", "container=gearlab"}, term()...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.In, s.Out, s.Err
	cmd.Cancel = func() error { return killChildren(cmd.Process.Pid) }
	err = cmd.Run()
	var exit *exec.ExitError
	if ctx.Err() != nil {
		return 0, fmt.Errorf("running %q in host %q: %w", argv[0], hostName, ctx.Err())
	}
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("running %q in host %q: %w", argv[0], hostName, err)
	}
	return 0, nil
}

// Shell runs an interactive shell in a host and returns its exit status.
func (l *Lab) Shell(ctx context.Context, hostName string, s Streams) (int, error) {
	return l.Exec(ctx, hostName, []string{"bash", "-l"}, s)
}

// Logs runs journalctl in a host with the given arguments, for example
// "-u", "docker", "-f".
func (l *Lab) Logs(ctx context.Context, hostName string, args []string, s Streams) (int, error) {
	return l.Exec(ctx, hostName, append([]string{"journalctl", "--no-pager"}, args...), s)
}

// runningHost returns the process 1 of a host that must be up.
func (l *Lab) runningHost(name string) (process, error) {
	s, err := l.loadState()
	if err != nil {
		return process{}, err
	}
	h, err := l.existingHost(name, s)
	if err != nil {
		return process{}, err
	}
	p, ok := h.running()
	if !ok {
		return process{}, fmt.Errorf("host %q of lab %q is off; start it with \"gear lab boot %s\"", name, l.cfg.Name, name)
	}
	return p, nil
}

// existingHost returns a host that has a disk.
func (l *Lab) existingHost(name string, s state) (host, error) {
	h, err := l.host(name, s.Subnet)
	if err != nil {
		return host{}, err
	}
	if !exists(h.dir) {
		return host{}, fmt.Errorf("lab %q has no host %q; \"gear lab list\" shows those it has", l.cfg.Name, name)
	}
	return h, nil
}

// killChildren kills the children of pid: nsenter's child is the command, and
// nsenter then ends by itself with the command's status.
func killChildren(pid int) error {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return kill(pid)
	}
	children := strings.Fields(string(text))
	if len(children) == 0 {
		return kill(pid)
	}
	for _, c := range children {
		if id, err := strconv.Atoi(c); err == nil {
			if err := kill(id); err != nil {
				return err
			}
		}
	}
	return nil
}

// term passes the kind of terminal on to the command.
func term() []string {
	if t := os.Getenv("TERM"); t != "" {
		return []string{"TERM=" + t}
	}
	return nil
}
