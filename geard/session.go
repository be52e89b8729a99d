package geard

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"

	"gearmesh.dev/api"
	"gearmesh.dev/api/frame"
	"gearmesh.dev/client/session"
)

// Inside reaches into the pods of a host for people: their containers, files and network.
type Inside interface {
	// Exec runs a command in a container and gives its exit code.
	Exec(ctx context.Context, pod api.Pod, container api.Name, c Command) (int, error)
	// Dial connects to a TCP port as a program in the pod does.
	Dial(ctx context.Context, pod api.Pod, port uint16) (net.Conn, error)
	// Files gives the files of a container.
	Files(ctx context.Context, pod api.Pod, container api.Name) (Files, error)
}

// Files are a container's, as tar archives.
type Files interface {
	// Stat looks at a path; of a link it tells what the link leads to.
	Stat(ctx context.Context, path string) (api.CopyAnswer, error)
	// Read gives a path as an archive, whose names begin with the path's last element.
	Read(ctx context.Context, path string) (io.ReadCloser, error)
	// Write unpacks an archive into a directory.
	Write(ctx context.Context, dir string, archive io.Reader) error
}

// Command is a command to run in a container.
type Command struct {
	api.ExecRequest
	Resize         <-chan frame.Size
	Stdin          io.ReadCloser // closed at the command's end; nil for none
	Stdout, Stderr io.Writer
}

// maxSessions is how many sessions an agent holds at once.
const maxSessions = 512

// opened makes a session of a request for a pod and reads its first frame into ask.
func (a *Agent) opened(w http.ResponseWriter, r *http.Request, ask interface{ Validate() error }) (*session.Conn, api.Pod, error) {
	h, err := a.podOf(r)
	if err != nil {
		return nil, api.Pod{}, err
	}
	if a.cfg.Inside == nil {
		return nil, api.Pod{}, api.Errorf(api.CodeUnavailable, "host %s cannot reach into its pods", a.cfg.Name)
	}
	s, err := session.Accept(w, r)
	if err != nil {
		a.log.Info("a session was not opened", "err", err)
		return nil, api.Pod{}, nil
	}
	if err = s.NextStart(ask); err == nil {
		err = ask.Validate()
	}
	if err != nil {
		s.Fail(err)
		return nil, api.Pod{}, nil
	}
	return s, *h.pod, nil
}

// limited holds the number of sessions down.
func (a *Agent) limited(serve func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if a.sessions.Add(1) > maxSessions {
			a.sessions.Add(-1)
			return api.Errorf(api.CodeRateLimited, "host %s has %d sessions open already", a.cfg.Name, maxSessions)
		}
		defer a.sessions.Add(-1)
		return serve(w, r)
	}
}

// containerOf gives the container that is meant: the first one when none is named.
func containerOf(p api.Pod, name api.Name) (api.Name, error) {
	var names []api.Name
	for _, c := range p.Spec.Template.Containers {
		names = append(names, c.Name)
	}
	switch {
	case name == "" && len(names) > 0:
		return names[0], nil
	case slices.Contains(names, name):
		return name, nil
	}
	return "", api.Errorf(api.CodeNotFound, "pod %s has no container %q; it has %q", p.Metadata.Name, name, names)
}

// serveExec runs a command for the master's client.
func (a *Agent) serveExec(w http.ResponseWriter, r *http.Request) error {
	var ask api.ExecRequest
	s, pod, err := a.opened(w, r, &ask)
	if s == nil {
		return err
	}
	container, err := containerOf(pod, ask.Container)
	if err != nil {
		s.Fail(err)
		return nil
	}
	in, resize := newInput(ask.Stdin), make(chan frame.Size, 1)
	ctx, cancel := context.WithCancel(s.Context())
	var work sync.WaitGroup
	work.Go(func() {
		in.lost(feed(s, in, resize))
		cancel()
	})
	c := Command{ExecRequest: ask, Resize: resize, Stdout: s.Writer(frame.Data), Stderr: s.Writer(frame.Stderr)}
	if ask.Stdin {
		c.Stdin = in.r
	}
	code, err := a.cfg.Inside.Exec(ctx, pod, container, c)
	in.drop()
	if err != nil {
		s.Fail(err)
	} else {
		s.Finish(frame.Exit, frame.Code(code))
	}
	cancel()
	work.Wait()
	return nil
}

// input is what a client sends, as a stream. Nobody may want it, or no more of it.
type input struct {
	r *io.PipeReader
	w *io.PipeWriter
}

func newInput(wanted bool) input {
	r, w := io.Pipe()
	in := input{r, w}
	if !wanted {
		in.drop()
	}
	return in
}

// drop is the end of the one who reads: nobody wants more.
func (in input) drop() { in.r.CloseWithError(io.ErrClosedPipe) }

// end is the client's own end of what it sends.
func (in input) end() { in.w.CloseWithError(io.EOF) }

// lost ends the stream in another way.
func (in input) lost(err error) {
	if err != nil {
		in.w.CloseWithError(err)
	}
}

// feed passes on what the client sends until the session ends, which gives the error.
func feed(s *session.Conn, in input, resize chan frame.Size) error {
	for {
		f, err := s.Next()
		if err != nil {
			return err
		}
		switch f.Type {
		case frame.Data:
			_, _ = in.w.Write(f.Payload) // who reads no more misses nothing
		case frame.End:
			in.end()
		case frame.Resize:
			select { // only the newest counts
			case <-resize:
			default:
			}
			select {
			case resize <- f.Size():
			default:
			}
		default:
			return api.Errorf(api.CodeBadRequest, "a client does not send %s frames now", f.Type)
		}
	}
}

// serveForward carries one TCP connection. Each direction ends by itself.
func (a *Agent) serveForward(w http.ResponseWriter, r *http.Request) error {
	var ask api.ForwardRequest
	s, pod, err := a.opened(w, r, &ask)
	if s == nil {
		return err
	}
	conn, err := a.cfg.Inside.Dial(s.Context(), pod, ask.Port)
	if err != nil {
		s.Fail(api.Errorf(api.CodeUnavailable, "nobody answers on port %d of pod %s: %v", ask.Port, pod.Metadata.Name, err))
		return nil
	}
	// The connection goes with the session, which ends both copies.
	stop := context.AfterFunc(s.Context(), func() { conn.Close() })
	defer stop()
	if err := s.Send(frame.Start, []byte("{}")); err != nil {
		conn.Close()
		s.Close()
		return nil
	}
	if err := session.Pipe(s, conn); err != nil {
		s.Fail(err)
		return nil
	}
	s.Finish(frame.Exit, frame.Code(0))
	return nil
}
