package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
	"gearmesh.dev/api/frame"
	"gearmesh.dev/client"
	"gearmesh.dev/client/session"
	"gearmesh.dev/internal/archive"
)

func (a *app) cpCmd() *cobra.Command {
	var container api.Name
	cmd := &cobra.Command{
		Use: "cp POD:PATH LOCAL | LOCAL POD:PATH", Short: "Copy files and directories out of a container, or into one",
		Long: `Copies a file or a directory with all that is in it. Where the target is a directory that is there, the copy gets
the source's name in it; else it gets the target's. Paths in containers are absolute.
Devices, pipes and links that lead out of what is copied are left out and named; gear then ends with status 1.`,
		Example: `  gear cp db-7f3k2:/data/dump.rdb .
  gear cp site/ web:/srv/www
  gear cp shop/web-7f3k2:/var/log logs -c main`,
		Args: between(2, 2, "a source and a target"),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, fromPath, out := cutPod(args[0])
			to, toPath, in := cutPod(args[1])
			if out == in {
				return usageError(cmd, "one of the two is in a pod, written POD:/PATH, and the other is on this machine (./a:b for a name with a colon)")
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			x := copying{app: a, client: c}
			if out {
				err = x.from(cmd.Context(), from, api.CopyRequest{Container: container, Path: fromPath}, args[1])
			} else {
				err = x.to(cmd.Context(), to, api.CopyRequest{Container: container, Path: toPath, Write: true}, args[0])
			}
			return x.end(err)
		},
	}
	containerFlag(cmd, &container)
	return cmd
}

// cutPod takes POD:PATH apart. What begins with . or / is on this machine, colon or not.
func cutPod(word string) (pod, inPod string, ok bool) {
	if strings.HasPrefix(word, ".") || strings.HasPrefix(word, "/") {
		return "", word, false
	}
	pod, inPod, ok = strings.Cut(word, ":")
	return pod, inPod, ok
}

// copying is one gear cp.
type copying struct {
	*app
	client *client.Client
	left   int // entries that were left out
}

func (x *copying) leave(name, why string) {
	x.left++
	fmt.Fprintf(x.err, "%s %s is left out: %s\n", x.errPaint.yellow("!"), printable(name), printable(why))
}

func (x *copying) end(err error) error {
	if err == nil && x.left > 0 {
		return problem{what: count(x.left, "file") + " left out; all else was copied", code: exitError}
	}
	return err
}

// open opens a session and reads what the path is.
func (x *copying) open(ctx context.Context, word string, ask api.CopyRequest) (*session.Conn, api.CopyAnswer, error) {
	var answer api.CopyAnswer
	if err := ask.Validate(); err != nil {
		return nil, answer, err
	}
	pod, err := x.podFor(ctx, x.client, word)
	if err != nil {
		return nil, answer, err
	}
	s, err := x.client.Session(ctx, pod.Metadata.Project, pod.Metadata.Name, client.SessionFiles, ask)
	if err != nil {
		return nil, answer, err
	}
	if err := s.NextStart(&answer); err != nil {
		s.Close()
		return nil, answer, lostSession(err)
	}
	return s, answer, nil
}

// from copies out of a pod.
func (x *copying) from(ctx context.Context, word string, ask api.CopyRequest, local string) error {
	s, is, err := x.open(ctx, word, ask)
	if err != nil {
		return err
	}
	defer s.Close()
	to, err := target(local, is.Name)
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := archive.Extract(to, r, archive.Default(), x.leave)
		r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
		done <- err
	}()
	heard := hear(s, w)
	w.CloseWithError(heard)
	if err := <-done; err != nil && !errors.Is(err, heard) || heard == nil {
		return err
	}
	return lostSession(heard)
}

// hear writes Data to w until the session's good end.
func hear(s *session.Conn, w io.Writer) error {
	for {
		f, err := s.Next()
		switch {
		case err != nil:
			return err
		case f.Type == frame.Exit:
			return nil
		case f.Type == frame.Data:
			if _, err := w.Write(f.Payload); err != nil {
				return err
			}
		}
	}
}

// target gives the path that the copy gets on this machine.
func target(local, name string) (string, error) {
	info, err := os.Stat(local)
	switch {
	case err == nil && info.IsDir() && name != "/" && name != "." && name != "..":
		return filepath.Join(local, name), nil
	case err == nil || !errors.Is(err, os.ErrNotExist):
		return local, err
	case strings.HasSuffix(local, "/"):
		return "", problem{what: fmt.Sprintf("there is no directory %q", local), try: "mkdir " + local, code: exitNotFound}
	}
	return local, nil
}

// notLost leaves out the end of a session that was given up here.
func notLost(err error) error {
	if errors.Is(err, session.ErrLost) {
		return nil
	}
	return err
}

// to copies into a pod.
func (x *copying) to(ctx context.Context, word string, ask api.CopyRequest, local string) error {
	if _, err := os.Stat(local); err != nil {
		return problem{what: fmt.Sprintf("%q cannot be read", local), why: err.Error(), code: exitNotFound}
	}
	s, is, err := x.open(ctx, word, ask)
	if err != nil {
		return err
	}
	defer s.Close()
	name := path.Base(ask.Path)
	if is.Directory {
		whole, err := filepath.Abs(local)
		if err != nil {
			return err
		}
		name = filepath.Base(whole)
	} else if strings.HasSuffix(ask.Path, "/") {
		return problem{what: fmt.Sprintf("the container has no directory %q", ask.Path), code: exitNotFound}
	}
	done := make(chan error, 1)
	go func() { done <- hear(s, io.Discard) }() // an error of the agent's ends the session, and so what is sent
	err = archive.Pack(s.Writer(frame.Data), local, name, x.leave)
	if err != nil && !errors.Is(err, session.ErrLost) {
		s.Close()
		return errors.Join(err, notLost(<-done))
	}
	_ = s.Send(frame.End, nil) // a session that is gone says so to who reads
	if err := <-done; err != nil {
		return lostSession(err)
	}
	return nil
}
