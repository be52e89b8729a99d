package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"gearmesh.dev/api"
	"gearmesh.dev/api/frame"
	"gearmesh.dev/client/session"
)

// session plays master, agent and container: the programs cat, exit N, both and vanish; on every port a server that
// answers "port N: " and what it was sent; and files, of which /data is a directory.
func (m *fakeMaster) session(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	pod, ok := m.objects[key(api.KindPod, r)].(*api.Pod)
	m.mu.Unlock()
	if !ok {
		refuse(w, api.Errorf(api.CodeNotFound, "there is no %s", key(api.KindPod, r)))
		return
	}
	s, err := session.Accept(w, r)
	if err != nil {
		return
	}
	defer s.Close()
	switch r.PathValue("session") {
	case "exec":
		var ask api.ExecRequest
		if err = s.NextStart(&ask); err == nil {
			err = fakeExec(s, pod, ask)
		}
	case "forward":
		var ask api.ForwardRequest
		if err = s.NextStart(&ask); err == nil {
			err = fakeServer(s, ask.Port)
		}
	case "files":
		var ask api.CopyRequest
		if err = s.NextStart(&ask); err == nil {
			err = m.fakeFiles(s, ask)
		}
	}
	if err != nil {
		s.Fail(err)
	}
}

func fakeExec(s *session.Conn, pod *api.Pod, ask api.ExecRequest) error {
	code := 0
	switch ask.Command[0] {
	case "cat":
		for ask.Stdin {
			f, err := s.Next()
			if err != nil {
				return err
			}
			if f.Type == frame.End {
				break
			}
			if err := s.Send(f.Type, f.Payload); err != nil {
				return err
			}
		}
	case "exit":
		code, _ = strconv.Atoi(ask.Command[1])
	case "both":
		_ = s.Send(frame.Data, []byte(fmt.Sprintln("to stdout of", pod.Spec.Service, ask.Container, ask.Command[1:])))
		_ = s.Send(frame.Stderr, []byte("to stderr\n"))
	case "vanish":
		return nil
	default:
		return api.Errorf(api.CodeUnavailable, "the connection to the agent of host h1 was lost")
	}
	s.Finish(frame.Exit, frame.Code(code))
	return nil
}

func fakeServer(s *session.Conn, port uint16) error {
	if port == 1 {
		return api.Errorf(api.CodeUnavailable, "nobody answers on port 1")
	}
	_ = s.Send(frame.Start, []byte("{}"))
	_ = s.Send(frame.Data, []byte(fmt.Sprintf("port %d: ", port)))
	for {
		f, err := s.Next()
		if err != nil {
			return err
		}
		_ = s.Send(f.Type, f.Payload)
		if f.Type == frame.End {
			s.Finish(frame.Exit, frame.Code(0))
			return nil
		}
	}
}

// fakeFiles keeps the last archive that was written, and gives it to who reads /data. /evil is hostile.
func (m *fakeMaster) fakeFiles(s *session.Conn, ask api.CopyRequest) error {
	_ = s.SendJSON(api.CopyAnswer{Name: ask.Path[strings.LastIndex(ask.Path, "/")+1:], Exists: true, Directory: ask.Path == "/data"})
	if !ask.Write {
		text := m.archive
		if ask.Path == "/evil" {
			text = evil()
		}
		_, _ = s.Writer(frame.Data).Write(text)
		s.Finish(frame.Exit, frame.Code(0))
		return nil
	}
	var b bytes.Buffer
	for {
		f, err := s.Next()
		if err != nil {
			return err
		}
		if f.Type == frame.End {
			m.archive = b.Bytes()
			s.Finish(frame.Exit, frame.Code(0))
			return nil
		}
		b.Write(f.Payload)
	}
}

func evil() []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{{Name: "evil/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "evil/null", Typeflag: tar.TypeChar},
		{Name: "evil/out", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, {Name: "evil/../../pwned", Typeflag: tar.TypeReg}} {
		_ = w.WriteHeader(&h)
	}
	_ = w.Close()
	return b.Bytes()
}
