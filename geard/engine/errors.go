package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"
)

// What callers tell apart. Every error of this package wraps at most one of them.
var (
	// ErrDown: the engine does not answer. What runs, runs on; ask again later.
	ErrDown = errors.New("the container engine does not answer")
	// ErrNoContainer: there is no such container.
	ErrNoContainer = errors.New("no such container")
	// ErrNoImage: the image is not on this host or, when it was pulled, not in its registry.
	ErrNoImage = errors.New("no such image")
	// ErrRegistry: the registry does not answer, or not as one.
	ErrRegistry = errors.New("the registry does not answer")
	// ErrDenied: the registry wants other credentials.
	ErrDenied = errors.New("the registry denies access")
	// ErrExists: a container of that name exists already.
	ErrExists = errors.New("the container exists already")
)

// explain says what was being done, and marks an engine that is down.
func explain(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	doing := fmt.Sprintf(format, args...)
	if isDown(err) {
		return fmt.Errorf("%s: %w: %w", doing, ErrDown, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// explainContainer is explain for calls about one container.
func explainContainer(err error, format string, args ...any) error {
	if errdefs.IsNotFound(err) {
		err = fmt.Errorf("%w: %w", ErrNoContainer, err)
	}
	return explain(err, format, args...)
}

// isDown tells whether the engine, and not the request, is at fault: no connection, or one that
// ended in the middle of an answer.
func isDown(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	var op *net.OpError
	return client.IsErrConnectionFailed(err) || errors.As(err, &op) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errdefs.IsUnavailable(err)
}

// registryFault finds out what a pull's message means. The engine passes on the registry's words
// with status 404 or 500, or inside the stream, so the words are all there is to go by.
func registryFault(msg string) error {
	low := strings.ToLower(msg)
	for _, f := range []struct {
		fault error
		words []string
	}{
		{ErrDenied, []string{"unauthorized", "authentication required", "no basic auth", "denied: requested"}},
		{ErrNoImage, []string{"manifest unknown", "not found", "does not exist", "name unknown", "no matching manifest"}},
		{ErrRegistry, []string{"connection refused", "no such host", "i/o timeout", "timeout exceeded", "no route to host",
			"connection reset", "tls:", "x509:", "http response to https", "unreachable", "server misbehaving", "eof"}},
	} {
		for _, w := range f.words {
			if strings.Contains(low, w) {
				return f.fault
			}
		}
	}
	return nil
}
