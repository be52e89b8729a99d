//go:build failpoints

package failpoint

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"gearmesh.dev/internal/loop"
)

// Count keeps the number of this process's goroutines in the file goroutines-PROCESS, once a second, after its process id, so
// that a test can see from outside whether some are left behind. The file is in the unit's runtime directory, or in its state
// directory where it has no other. stop ends it.
func Count(process string) (stop func()) {
	return count(cmp.Or(os.Getenv("RUNTIME_DIRECTORY"), os.Getenv("STATE_DIRECTORY"), "/run/gear"), process, time.Second)
}

func count(dir, process string, period time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var counting sync.WaitGroup
	counting.Go(func() {
		loop.Run(ctx, nil, 0, period, func(context.Context) {
			// What a test finds of a file that could not be written is an old number, or none.
			_ = os.WriteFile(filepath.Join(dir, "goroutines-"+process), fmt.Appendln(nil, os.Getpid(), runtime.NumGoroutine()), 0o644)
		})
	})
	return func() { cancel(); counting.Wait() }
}
