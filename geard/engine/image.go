package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
)

// Pull fetches an image. progress, when not nil, gets one short line for each step. The error is
// ErrNoImage, ErrRegistry, ErrDenied or ErrDown where it is one of these.
func (e *Engine) Pull(ctx context.Context, ref string, progress func(string)) error {
	return e.PullAs(ctx, ref, Login{}, progress)
}

// PullAs is Pull from a registry that wants to know who asks.
func (e *Engine) PullAs(ctx context.Context, ref string, login Login, progress func(string)) error {
	auth, err := login.header(ref)
	if err != nil {
		return err
	}
	stream, err := e.api.ImagePull(ctx, ref, image.PullOptions{RegistryAuth: auth})
	if err != nil {
		return pullError(ref, err)
	}
	defer stream.Close()
	if err := readPull(stream, progress); err != nil {
		return pullError(ref, err)
	}
	return nil
}

// pullStep is one line of the pull's answer.
type pullStep struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Error  string `json:"error"`
}

// readPull reads the steps of a pull until its end. A status that comes again and again for a layer
// (its progress bar) is passed on once.
func readPull(r io.Reader, progress func(string)) error {
	last := ""
	for dec := json.NewDecoder(r); ; {
		var s pullStep
		if err := dec.Decode(&s); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if s.Error != "" {
			return errors.New(s.Error)
		}
		line := strings.TrimPrefix(s.ID+": "+s.Status, ": ")
		if progress != nil && line != last {
			progress(line)
		}
		last = line
	}
}

func pullError(ref string, err error) error {
	if fault := registryFault(err.Error()); fault != nil && !isDown(err) {
		return fmt.Errorf("pulling image %q: %w: %w", ref, fault, err)
	}
	return explain(err, "pulling image %q", ref)
}

// ImageID gives the id of an image on this host. The error is ErrNoImage when it is not here.
func (e *Engine) ImageID(ctx context.Context, ref string) (string, error) {
	r, err := e.api.ImageInspect(ctx, ref)
	if errdefs.IsNotFound(err) {
		return "", fmt.Errorf("image %q: %w on this host", ref, ErrNoImage)
	}
	return r.ID, explain(err, "looking at image %q", ref)
}
