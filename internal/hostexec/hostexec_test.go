package hostexec_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/internal/hostexec"
)

func TestRunReturnsStdoutOnly(t *testing.T) {
	out, err := hostexec.Run(t.Context(), hostexec.Cmd{
		Argv:  []string{"sh", "-c", "cat; echo noise >&2"},
		Stdin: []byte("hello\n"),
	})
	if err != nil || string(out) != "hello\n" {
		t.Fatalf("got %q, %v; want the standard input back", out, err)
	}
}

func TestRunEnvironmentIsClean(t *testing.T) {
	t.Setenv("LEAK", "1")
	t.Setenv("PATH", "/nowhere")
	out, err := hostexec.Run(t.Context(), hostexec.Cmd{Argv: []string{"env"}, Env: []string{"MINE=2"}})
	if err != nil {
		t.Fatal(err)
	}
	want := "PATH=" + hostexec.Path + "\nLC_ALL=C\nHOME=/root\nMINE=2\n"
	if string(out) != want {
		t.Fatalf("environment is\n%s, want\n%s", out, want)
	}
}

func TestRunErrorTellsAll(t *testing.T) {
	_, err := hostexec.Run(t.Context(), hostexec.Cmd{Argv: []string{"sh", "-c", "echo ' why ' >&2; exit 3"}})
	var exit *hostexec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("got %v, want an ExitError", err)
	}
	if exit.Code != 3 || exit.Stderr != "why" || exit.Argv[0] != "sh" {
		t.Errorf("got %+v", exit)
	}
	if !strings.Contains(err.Error(), "exit status 3: why") {
		t.Errorf("message %q lacks status or reason", err)
	}
}

func TestRunBadInput(t *testing.T) {
	tests := map[string]struct {
		cmd  hostexec.Cmd
		want string
	}{
		"no command":   {hostexec.Cmd{}, "no command given"},
		"unknown":      {hostexec.Cmd{Argv: []string{"no-such-command"}}, "is its package installed"},
		"no namespace": {hostexec.Cmd{Argv: []string{"true"}, NetNS: "/run/netns/none"}, "opening network namespace"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := hostexec.Run(t.Context(), tt.cmd)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestRunUnknownCommandIsErrNotFound(t *testing.T) {
	_, err := hostexec.Run(t.Context(), hostexec.Cmd{Argv: []string{"no-such-command"}})
	if !errors.Is(err, exec.ErrNotFound) {
		t.Fatalf("got %v, want exec.ErrNotFound", err)
	}
}

func TestRunCancelKillsTheGroup(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	// The grandchild holds the output pipe: only a kill of the whole group
	// lets Run return without waiting for it.
	_, err := hostexec.Run(ctx, hostexec.Cmd{Argv: []string{"sh", "-c", "sleep 600 & wait"}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want the context's error", err)
	}
}

func TestRunInNetNS(t *testing.T) {
	name := fmt.Sprintf("hostexec-test-%d", os.Getpid())
	file := "/run/netns/" + name
	if os.Geteuid() != 0 {
		t.Fatal("this test makes a network namespace: run it as root")
	}
	run := func(netns string, argv ...string) string {
		t.Helper()
		out, err := hostexec.Run(context.WithoutCancel(t.Context()), hostexec.Cmd{Argv: argv, NetNS: netns})
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	run("", "ip", "netns", "add", name)
	t.Cleanup(func() { run("", "ip", "netns", "del", name) })
	before := run("", "readlink", "/proc/self/ns/net")
	inside := run(file, "readlink", "/proc/self/ns/net")
	if inside == before {
		t.Error("the command ran in the caller's namespace")
	}
	if after := run("", "readlink", "/proc/self/ns/net"); after != before {
		t.Errorf("the caller moved from %s to %s", before, after)
	}
}
