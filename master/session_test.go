package master

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/api/frame"
	"gearmesh.dev/client/session"
)

// open opens a session in a pod.
func (u *user) open(pod api.Name, what string, first any) (*session.Conn, error) {
	header := http.Header{}
	if u.token != "" {
		header.Set("Authorization", "Bearer "+u.token)
	}
	s, err := session.Dial(u.c.t.Context(), u.http, u.c.url+"/v1/projects/shop/pods/"+string(pod)+"/"+what, header)
	if err != nil {
		return nil, err
	}
	u.c.t.Cleanup(s.Close)
	if err := s.SendJSON(first); err != nil {
		u.c.t.Fatal(err)
	}
	return s, nil
}

// sessionAgent echoes what it gets, and ends with the number of words of the command; the command "vanish"
// loses the connection.
func sessionAgent(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s, err := session.Accept(w, r)
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Close()
		var ask api.ExecRequest
		if s.NextStart(&ask) != nil { // the master refused it
			return
		}
		for {
			f, err := s.Next()
			switch {
			case err != nil || ask.Command[0] == "vanish":
				return
			case f.Type == frame.End:
				s.Finish(frame.Exit, frame.Code(len(ask.Command)))
				return
			case s.Send(f.Type, f.Payload) != nil:
				return
			}
		}
	}
}

func TestSession(t *testing.T) {
	c, pods := logCluster(t, func(host string) http.HandlerFunc {
		if host == "h2" {
			return nil
		}
		return sessionAgent(t)
	})
	ann, pod := c.ann(), pods[0].Metadata.Name
	s, err := ann.open(pod, "exec", api.ExecRequest{Command: []string{"psql", "-c", "select 1"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(frame.Data, []byte("in\x00put")); err != nil {
		t.Fatal(err)
	}
	if f, err := s.Next(); err != nil || f.Type != frame.Data || string(f.Payload) != "in\x00put" {
		t.Errorf("got %v %q, %v", f.Type, f.Payload, err)
	}
	_ = s.Send(frame.End, nil)
	if f, err := s.Next(); err != nil || f.Type != frame.Exit || f.Code() != 3 {
		t.Errorf("got %v, %v", f, err)
	}
	c.until("both records", func() bool { return strings.Contains(c.log.String(), `result="exit 3"`) })
	want := `msg=exec log=audit identity=person:ann from=127.0.0.1 object="pod shop/` + string(pod) + `" host=h1 asked="[\"psql\" \"-c\" \"select 1\"]"`
	if !strings.Contains(c.log.String(), want) {
		t.Errorf("no record %s in\n%s", want, c.log)
	}
}

func TestSessionFaults(t *testing.T) {
	c, pods := logCluster(t, func(host string) http.HandlerFunc {
		if host == "h2" {
			return nil
		}
		return sessionAgent(t)
	})
	ann := c.ann()
	told := func(what string, err error, code api.Code, text string) {
		t.Helper()
		var e *api.Error
		if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Detail+e.Error(), text) {
			t.Errorf("%s: %v, want %s with %q", what, err, code, text)
		}
	}
	next := func(ask any) error {
		t.Helper()
		s, err := ann.open(pods[0].Metadata.Name, "exec", ask)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Send(frame.Data, []byte("x"))
		_, err = s.Next()
		return err
	}
	_, err := ann.open("nosuch", "exec", api.ExecRequest{Command: []string{"ls"}})
	told("a missing pod", err, api.CodeNotFound, "there is no pod shop/nosuch")
	_, err = ann.open(pods[1].Metadata.Name, "exec", api.ExecRequest{Command: []string{"ls"}})
	told("a host that is away", err, api.CodeUnavailable, "the agent of host h2 does not answer: connection refused")
	_, err = c.user("", nil).open(pods[0].Metadata.Name, "exec", api.ExecRequest{Command: []string{"ls"}})
	told("nobody", err, api.CodeUnauthorized, "say who you are")
	told("no command", next(api.ExecRequest{}), api.CodeInvalid, "a program is needed")
	told("a field that is not known", next(map[string]any{"command": []string{"ls"}, "user": "root"}), api.CodeInvalid, "user")
	told("an agent that ends", next(api.ExecRequest{Command: []string{"vanish"}}), api.CodeUnavailable, "the connection to the agent of host h1 was lost")
	ann.must("GET", "/v1/projects/shop/pods/"+string(pods[0].Metadata.Name)+"/exec", nil, http.StatusBadRequest)
	c.until("end of all sessions", func() bool { return c.m.sessions.Load() == 0 })
}
