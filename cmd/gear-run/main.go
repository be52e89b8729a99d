// Command gear-run is what the units of a pod run: the supervisor of one container (run), and the
// pod's network (net-up, net-down). Called as gear-oci, through a symbolic link, it is the OCI runtime that puts
// containers into their pod's network.
//
// One runs per container, so it is kept small: no command line library, one processor, and a
// garbage collector that would rather work than grow.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/oci"
	"gearmesh.dev/geard/podnet"
	"gearmesh.dev/geard/podstate"
)

const help = `gear-run runs one container of a pod; systemd calls it.

  gear-run run UID/CONTAINER   look after the container until it ends (Type=notify)
  gear-run native UID/CONTAINER  become the host's program that is the container; systemd looks after it,
                               with native-wait, -ready, -stop and -ended around it
  gear-run stopped UID/CONTAINER  end what a container's unit that has ended may have left behind
  gear-run net-up UID          make the pod's network namespace, interface and links
  gear-run net-down UID        take them away
  gear-run link-wait UID/N     wait until the pod's Nth link has a backend
  gear-run pids-up UID         make the process view that the pod's containers share (Type=notify)
  gear-run pids-down UID       take it away
  gear-run pids-init UID       its process 1
  gear-oci ...                 (a link to gear-run) the OCI runtime: runc with the pod's network

UID is the pod's, and names its directory in /var/lib/gear/pods.
To look after pods use systemctl, journalctl and gear.
`

// errUsage is what a wrong command line gives.
var errUsage = errors.New("see gear-run --help")

// exitError carries a container's exit code.
type exitError int

func (e exitError) Error() string {
	return fmt.Sprintf("the container ended with exit status %d", int(e))
}

func main() {
	if filepath.Base(os.Args[0]) == "gear-oci" {
		err := oci.Shim{Record: podstate.Host().Record}.Run(os.Args, os.Environ())
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// The journal may go away and come back; a write to it then fails instead of ending us.
	signal.Ignore(syscall.SIGPIPE)
	runtime.GOMAXPROCS(1)
	debug.SetMemoryLimit(memoryLimit)
	debug.SetGCPercent(-1) // what is short needs none
	time.AfterFunc(restAfter, rest)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(exitCode(err, os.Stderr))
}

// memoryLimit is what makes the garbage collector work however long the process lives: in bytes, of Go's heap and stacks.
const memoryLimit = 8 << 20

// restGC is how much the heap may grow between two collections of a process at rest, in percent of what lives (GOGC).
const restGC = 25

// restAfter is how long after its start, and after its container is ready, a process comes to rest: others may be starting, and
// need the processor more.
const restAfter = 5 * time.Second

// rest gives back to the system what a start has taken, and keeps the heap small from then on.
func rest() {
	debug.SetGCPercent(restGC)
	debug.FreeOSMemory()
}

// exitCode is the one place where errors become exit codes.
func exitCode(err error, stderr io.Writer) int {
	var exit exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	}
	fmt.Fprintf(stderr, "gear-run: %v\n", err)
	if errors.Is(err, errUsage) {
		return 2
	}
	return 1
}

// run carries out a command line.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 1 && (args[0] == "--help" || args[0] == "-h" || args[0] == "help") {
		_, err := io.WriteString(stdout, help)
		return err
	}
	if len(args) != 2 {
		return fmt.Errorf("want a command and one argument, got %q: %w", args, errUsage)
	}
	switch args[0] {
	case "run":
		return runContainer(ctx, args[1], stdout, stderr)
	case "native", "native-wait", "native-ready", "native-stop", "native-ended":
		return native(ctx, args[0], args[1], stderr)
	case "stopped":
		return stopped(ctx, args[1], stderr)
	case "net-up":
		return netUp(ctx, args[1], stderr)
	case "net-down":
		return netDown(args[1])
	case "link-wait":
		return linkWait(ctx, args[1], stderr)
	case "pids-up":
		return pidsUp(args[1])
	case "pids-down":
		return podnet.PidsDown(podstate.Host(), api.UID(args[1]))
	case "pids-init":
		podnet.Reap(ctx)
		return nil
	}
	return fmt.Errorf("unknown command %q: %w", args[0], errUsage)
}
