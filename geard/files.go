package geard

import (
	"context"
	"io"
	"net/http"
	"path"
	"sync"

	"gearmesh.dev/api"
	"gearmesh.dev/api/frame"
	"gearmesh.dev/client/session"
	"gearmesh.dev/internal/archive"
)

// serveFiles copies files out of a container or into one, for the master's client.
func (a *Agent) serveFiles(w http.ResponseWriter, r *http.Request) error {
	var ask api.CopyRequest
	s, pod, err := a.opened(w, r, &ask)
	if s == nil {
		return err
	}
	ask.Path = path.Clean(ask.Path)
	if err := a.copyFiles(s, pod, ask); err != nil {
		s.Fail(err)
		return nil
	}
	s.Finish(frame.Exit, frame.Code(0))
	return nil
}

func (a *Agent) copyFiles(s *session.Conn, pod api.Pod, ask api.CopyRequest) error {
	ctx := s.Context()
	container, err := containerOf(pod, ask.Container)
	if err != nil {
		return err
	}
	files, err := a.cfg.Inside.Files(ctx, pod, container)
	if err != nil {
		return err
	}
	is, err := files.Stat(ctx, ask.Path)
	if err != nil {
		return err
	}
	if !is.Exists && !ask.Write {
		return api.Errorf(api.CodeNotFound, "container %s of pod %s has no %q", container, pod.Metadata.Name, ask.Path)
	}
	if err := s.SendJSON(is); err != nil {
		return err
	}
	if ask.Write {
		dir := ask.Path
		if !is.Directory {
			dir = path.Dir(ask.Path)
		}
		return a.receiveFiles(ctx, s, files, dir)
	}
	return sendFiles(ctx, s, files, ask.Path)
}

func sendFiles(ctx context.Context, s *session.Conn, files Files, name string) error {
	out, err := files.Read(ctx, name)
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = io.Copy(s.Writer(frame.Data), out)
	return err
}

// receiveFiles unpacks what the client sends. The engine would make devices and set-user-id programs as the
// host's root, which a container's own root may not: they are filtered out.
func (a *Agent) receiveFiles(ctx context.Context, s *session.Conn, files Files, dir string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sent, clean := newInput(true), newInput(true)
	var work sync.WaitGroup
	defer work.Wait()
	defer sent.drop()
	work.Go(func() {
		err := receiveData(s, sent)
		sent.w.CloseWithError(err) // nil is the end
	})
	work.Go(func() {
		err := archive.Filter(clean.w, sent.r, archive.Default(), func(name, why string) {
			a.log.Info("an entry of an archive is left out", "name", name, "why", why)
		})
		clean.w.CloseWithError(err)
		if err == nil {
			_, _ = io.Copy(io.Discard, sent.r) // what fills up the last block
		}
		sent.r.CloseWithError(err)
	})
	err := files.Write(ctx, dir, clean.r)
	clean.r.CloseWithError(err)
	if err != nil {
		s.Fail(err) // before the wait: the client may still be sending
	}
	return err
}

// receiveData passes on what the client sends until it has sent all.
func receiveData(s *session.Conn, in input) error {
	for {
		f, err := s.Next()
		switch {
		case err != nil:
			return err
		case f.Type == frame.End:
			return nil
		case f.Type != frame.Data:
			return api.Errorf(api.CodeBadRequest, "a client does not send %s frames now", f.Type)
		}
		if _, err := in.w.Write(f.Payload); err != nil {
			return err
		}
	}
}
