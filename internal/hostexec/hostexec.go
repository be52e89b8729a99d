// Package hostexec runs the host's own commands (ip, iptables-restore,
// conntrack, mmdebstrap …) in one predictable way: no shell, an environment
// that is always the same, output in the C locale, and an error that says what
// was run, how it ended and what it complained about.
//
//	out, err := hostexec.Run(ctx, hostexec.Cmd{
//		Argv:  []string{"iptables-save", "-t", "nat"},
//		NetNS: "/run/netns/gear-7f3k2",
//	})
package hostexec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Path is the search path of every command. It is fixed, so that a command
// found in a test is the one found by the daemon.
const Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// maxStderr bounds what an ExitError keeps of a command's complaints, in bytes.
const maxStderr = 16 << 10

// drainTime is how long a killed command's pipes may stay open, for instance
// because a grandchild in another process group holds them.
const drainTime = 2 * time.Second

// Cmd is one command to run.
type Cmd struct {
	// Argv is the command and its arguments. A name without a slash is
	// looked up in Path, not in the caller's PATH.
	Argv []string
	// Stdin is written to the command's standard input; nil means /dev/null.
	Stdin []byte
	// NetNS is the file of a network namespace (/run/netns/NAME or
	// /proc/PID/ns/net) the command runs in; empty means the caller's.
	NetNS string
	// Env is added to the clean environment, as KEY=value.
	Env []string
}

// ExitError says that a command ran and ended with a status other than 0.
type ExitError struct {
	Argv   []string
	Code   int    // exit status, or -1 if a signal ended the command
	Stderr string // trimmed, at most 16 KiB, the end of it
	State  string // how it ended in the kernel's words: "exit status 2"
}

// Error names the command, how it ended and what it wrote to stderr.
func (e *ExitError) Error() string {
	msg := fmt.Sprintf("%q: %s", strings.Join(e.Argv, " "), e.State)
	if e.Stderr != "" {
		msg += ": " + e.Stderr
	}
	return msg
}

// Run runs c to its end and returns its standard output. The output is
// returned with an *ExitError too, since some commands say useful things on it.
// When ctx ends, the command's whole process group is killed and the error
// wraps ctx's.
func Run(ctx context.Context, c Cmd) ([]byte, error) {
	if len(c.Argv) == 0 || c.Argv[0] == "" {
		return nil, errors.New("running a host command: no command given")
	}
	path, err := lookPath(c.Argv[0])
	if err != nil {
		return nil, err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path, c.Argv[1:]...)
	cmd.Args[0] = c.Argv[0]
	cmd.Env = append([]string{"PATH=" + Path, "LC_ALL=C", "HOME=/root"}, c.Env...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if c.Stdin != nil {
		cmd.Stdin = bytes.NewReader(c.Stdin)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = drainTime
	if err := startIn(c.NetNS, cmd.Start); err != nil {
		return nil, fmt.Errorf("starting %q: %w", c.Argv[0], err)
	}
	err = cmd.Wait()
	return stdout.Bytes(), outcome(ctx, c.Argv, err, stderr.Bytes())
}

// outcome turns what Wait said into this package's errors.
func outcome(ctx context.Context, argv []string, err error, stderr []byte) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("running %q: %w", strings.Join(argv, " "), ctx.Err())
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("running %q: %w", strings.Join(argv, " "), err)
	}
	return &ExitError{Argv: argv, Code: exit.ExitCode(), State: exit.String(), Stderr: tail(stderr)}
}

// tail trims b and keeps its end: commands put the reason last.
func tail(b []byte) string {
	b = bytes.TrimSpace(b)
	if len(b) > maxStderr {
		b = b[len(b)-maxStderr:]
	}
	return strings.ToValidUTF8(string(b), "?")
}

// lookPath finds a command in Path.
func lookPath(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for dir := range strings.SplitSeq(Path, ":") {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("command %q: %w in %s; is its package installed?", name, exec.ErrNotFound, Path)
}
