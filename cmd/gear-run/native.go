package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/geard/runner"
)

// native runs one of the commands around a container that is a program of the host, or becomes it.
func native(ctx context.Context, command, arg string, stderr io.Writer) error {
	uid, container, err := splitArg(arg)
	if err != nil {
		return err
	}
	c := runner.Config{
		Dirs: podstate.Host(), UID: uid, Container: container, Unit: unit,
		Notify: func(string) {}, // systemd listens to the program alone
		Log:    slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{ReplaceAttr: withoutTime})),
	}
	switch command {
	case "native-wait":
		return runner.NativeWait(ctx, c, os.Getenv("RUNTIME_DIRECTORY"))
	case "native-ready":
		return runner.NativeReady(ctx, c, alive(os.Getenv("MAINPID")))
	case "native-stop":
		return runner.NativeStop(c, os.Getenv("MAINPID"))
	case "native-ended":
		return runner.NativeEnded(c, runner.NativeExit{Result: os.Getenv("SERVICE_RESULT"), Code: os.Getenv("EXIT_CODE"), Status: os.Getenv("EXIT_STATUS")})
	}
	return becomeNative()
}

// alive tells whether a process is there.
func alive(pid string) func() bool {
	return func() bool {
		_, err := os.Stat(filepath.Join("/proc", pid, "stat"))
		return pid != "" && err == nil
	}
}

// becomeNative replaces this process by the program. It has the program's user and sandbox already.
func becomeNative() error {
	n, err := runner.LoadNative(os.Getenv("RUNTIME_DIRECTORY"))
	if err != nil {
		return err
	}
	signal.Reset(syscall.SIGPIPE) // what is ignored here would be ignored there
	if err := syscall.Exec(n.Argv[0], n.Argv, n.Environ(os.Environ())); err != nil {
		return fmt.Errorf("running %q: %w", n.Argv[0], err)
	}
	return nil
}
