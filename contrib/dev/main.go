// Command dev is make dev: the whole system without root, for work on everything above the host.
//
// Master (embedded etcd), three agents and their mesh are the real ones, in one process on loopback
// addresses; the hosts under the agents are fake (package fakehost), so pods run by being noted. It is built
// and started again whenever a Go file changes; its state is in out/dev and stays.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"gearmesh.dev/internal/loop"
)

// dir is where the state of a development system is, below the checkout.
const dir = "out/dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	inner := flag.Bool("inner", false, "run the system itself, without watching files")
	hosts := flag.Int("hosts", 3, "number of fake hosts")
	flag.Parse()
	var err error
	if *inner {
		err = system(ctx, *hosts, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})))
	} else {
		err = reload(ctx, *hosts)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "dev:", err)
		os.Exit(1)
	}
}

// reload builds and runs the system, and again after each change of a Go file.
func reload(ctx context.Context, hosts int) error {
	program := filepath.Join(dir, "dev")
	for ctx.Err() == nil {
		seen, err := newest(".")
		if err != nil {
			return err
		}
		run, cancel := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- buildAndRun(run, program, hosts) }()
		changed := waitForChange(run, seen, done)
		cancel()
		if err := <-done; err != nil && !changed && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "dev:", err)
			waitForChange(ctx, seen, nil)
		}
	}
	return nil
}

func buildAndRun(ctx context.Context, program string, hosts int) error {
	for _, argv := range [][]string{{"go", "build", "-o", program, "./contrib/dev"}, {program, "-inner", fmt.Sprint("-hosts=", hosts)}} {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = 10 * time.Second
		if err := cmd.Run(); err != nil {
			return err
		}
	}
	return nil
}

// waitForChange waits for a newer Go file, and tells whether there is one, or for the program to end.
func waitForChange(ctx context.Context, seen time.Time, done chan error) bool {
	for loop.Sleep(ctx, time.Second) {
		select {
		case err := <-done:
			done <- err
			return false
		default:
		}
		if now, err := newest("."); err == nil && now.After(seen) {
			return true
		}
	}
	return false
}

// newest gives the time of the last change of a Go file.
func newest(root string) (time.Time, error) {
	var last time.Time
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // an editor's file that came and went
		}
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "out" || d.Name() == ".git") {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".go") {
			if info, err := d.Info(); err == nil && info.ModTime().After(last) {
				last = info.ModTime()
			}
		}
		return nil
	})
	return last, err
}
