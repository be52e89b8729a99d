package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
)

// linkLook is how often the links on disk are looked at, which the agent replaces when they change.
const linkLook = 200 * time.Millisecond

// linkWait waits until a pod's link, given as UID/N with N from 1, has a backend. It is what others of systemd can order themselves
// after; gear-run looks itself before it starts a container.
func linkWait(ctx context.Context, arg string, stderr io.Writer) error {
	uid, n, err := splitLink(arg)
	if err != nil {
		return err
	}
	dirs, said := podstate.Host(), ""
	for ctx.Err() == nil {
		links, err := dirs.LoadLinks(uid)
		switch {
		case podstate.Missing(err):
			return err // so is the pod
		case err == nil && n > len(links):
			err = fmt.Errorf("the pod has %d links", len(links))
		case err == nil && len(links[n-1].Backends) > 0:
			return nil
		case err == nil:
			err = errors.New(links[n-1].Lacks())
		}
		if said != err.Error() {
			said = err.Error()
			fmt.Fprintf(stderr, "gear-run: waiting: %s\n", said)
		}
		select {
		case <-ctx.Done():
		case <-time.After(linkLook):
		}
	}
	return ctx.Err()
}

func splitLink(arg string) (api.UID, int, error) {
	uid, number, _ := strings.Cut(arg, "/")
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 || api.UID(uid).Validate() != nil {
		return "", 0, fmt.Errorf("want UID/N, got %q: %w", arg, errUsage)
	}
	return api.UID(uid), int(n), nil
}
