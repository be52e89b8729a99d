//go:build failpoints

package failpoint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"gearmesh.dev/internal/loop"
)

// Hit does what the point is armed with. The error is that of an action "error TEXT", or that of an
// action that nobody understands.
func Hit(n Name) error { return hit(Dir, n) }

func hit(dir string, n Name) error {
	file := filepath.Join(dir, string(n))
	text, err := os.ReadFile(file)
	if err != nil {
		return nil // not armed
	}
	// Of several that come by at once, one acts. A process that may not write there acts too.
	if err := os.Rename(file, file+".hit"); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	action, argument, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	fmt.Fprintf(os.Stderr, "failpoint %s: %s %s\n", n, action, argument)
	return act(n, action, argument)
}

func act(n Name, action, argument string) error {
	switch action {
	case "kill":
		if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
			return fmt.Errorf("failpoint %q: %w", n, err)
		}
		select {} // not one step further
	case "exit":
		os.Exit(1)
	case "sleep":
		d, err := time.ParseDuration(argument)
		if err != nil {
			return fmt.Errorf("failpoint %q: %w; want for example \"sleep 5s\"", n, err)
		}
		loop.Sleep(context.Background(), d)
		return nil
	case "error":
		return errors.New(argument)
	}
	return fmt.Errorf("failpoint %q: unknown action %q; want kill, exit, sleep or error", n, action)
}
