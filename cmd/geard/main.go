// Command geard is every daemon of Gearmesh: agent, master and router.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"

	"gearmesh.dev/internal/failpoint"
	"gearmesh.dev/internal/version"
)

const usage = `geard runs the daemons of Gearmesh. systemd starts them; gear up and gear join set that up.

  geard agent    runs this host's pods, links, names and mesh
  geard master   keeps the desired state, serves the API, assigns pods to hosts
  geard router   drives HAProxy on this host
  geard restore  makes a master's directory from a backup (gear restore calls it)
  geard version  prints the version

geard DAEMON --help lists the flags of a daemon.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "geard: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	daemons := map[string]func(context.Context, []string, *slog.Logger) error{
		"agent": runAgent, "master": runMaster, "router": runRouter, "restore": runRestore,
	}
	if len(args) == 0 || args[0] == "--help" || args[0] == "-h" || args[0] == "help" {
		fmt.Fprint(stdout, usage)
		return nil
	}
	if args[0] == "version" {
		fmt.Fprintln(stdout, version.Version)
		return nil
	}
	d := daemons[args[0]]
	if d == nil {
		return fmt.Errorf("there is no daemon %q; geard --help lists them", args[0])
	}
	defer failpoint.Count(args[0])()
	return d(ctx, args[1:], logger(stderr))
}

// logger writes plain lines: journald knows the time and the unit.
func logger(w io.Writer) *slog.Logger {
	level := slog.LevelInfo
	if os.Getenv("GEAR_DEBUG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// ready tells systemd that the daemon serves.
func ready(log *slog.Logger) {
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.Warn("telling systemd that the daemon is ready", "err", err)
	}
}
