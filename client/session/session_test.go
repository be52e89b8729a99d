package session_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/api/frame"
	"gearmesh.dev/client/session"
)

// pair opens a session with a server that serves it.
func pair(t *testing.T, serve func(*session.Conn)) *session.Conn {
	t.Helper()
	done := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(done)
		s, err := session.Accept(w, r)
		if err != nil {
			t.Error(err)
			return
		}
		serve(s)
		s.Close()
	}))
	s, err := session.Dial(t.Context(), server.Client(), server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); <-done; server.Close() })
	return s
}

func TestEcho(t *testing.T) {
	s := pair(t, func(s *session.Conn) {
		var ask api.ForwardRequest
		if err := s.NextStart(&ask); err != nil || ask.Port != 80 {
			t.Errorf("asked for %+v, %v", ask, err)
		}
		for {
			switch f, err := s.Next(); {
			case err != nil:
				t.Error(err)
				return
			case f.Type == frame.End:
				s.Finish(frame.Exit, frame.Code(7))
				return
			default:
				if err := s.Send(f.Type, f.Payload); err != nil {
					t.Error(err)
				}
			}
		}
	})
	if err := s.SendJSON(api.ForwardRequest{Port: 80}); err != nil {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("0123456789\n\x00"), 100_000)
	go func() {
		_, _ = s.Writer(frame.Data).Write(sent)
		_ = s.Send(frame.End, nil)
	}()
	var got []byte
	for {
		f, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		if f.Type == frame.Exit {
			if f.Code() != 7 || !bytes.Equal(got, sent) {
				t.Errorf("exit %d after %d bytes of %d", f.Code(), len(got), len(sent))
			}
			return
		}
		got = append(got, f.Payload...)
	}
}

func TestErrorsReachTheOtherEnd(t *testing.T) {
	s := pair(t, func(s *session.Conn) { s.Fail(api.Errorf(api.CodeNotFound, "there is nothing")) })
	var told *api.Error
	if _, err := s.Next(); !errors.As(err, &told) || told.Code != api.CodeNotFound || told.Detail != "there is nothing" {
		t.Errorf("got %v", err)
	}
	s = pair(t, func(*session.Conn) {})
	if _, err := s.Next(); !errors.Is(err, session.ErrLost) {
		t.Errorf("an end without a last word gives %v", err)
	}
}

func TestStrictFirstFrame(t *testing.T) {
	for text, want := range map[string]string{
		`{"port": 80, "prot": 1}`: "prot",
		`{"port": 80`:             "",
	} {
		s := pair(t, func(s *session.Conn) {
			if err := s.NextStart(&api.ForwardRequest{}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s gives %v", text, err)
			}
		})
		if err := s.Send(frame.Start, []byte(text)); err != nil {
			t.Fatal(err)
		}
		_, _ = s.Next()
	}
}

func TestRefusedWithAProblem(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"code":"NotFound","detail":"there is no pod shop/x"}`)
	}))
	defer server.Close()
	_, err := session.Dial(t.Context(), server.Client(), server.URL, nil)
	var told *api.Error
	if !errors.As(err, &told) || told.Detail != "there is no pod shop/x" {
		t.Errorf("got %v", err)
	}
}

// tcpPair gives both ends of a TCP connection.
func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialed, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialed.Close(); accepted.Close() })
	return dialed.(*net.TCPConn), accepted.(*net.TCPConn)
}

// A connection's directions end one by one: who has said all can still hear.
func TestPipeKeepsHalfClose(t *testing.T) {
	user, near := tcpPair(t)
	far, server := tcpPair(t)
	s := pair(t, func(s *session.Conn) {
		if err := session.Pipe(s, far); err != nil {
			t.Error(err)
		}
		s.Finish(frame.Exit, frame.Code(0))
	})
	ended := make(chan error)
	go func() { ended <- session.Pipe(s, near) }()
	_, _ = io.WriteString(user, "question")
	_ = user.CloseWrite()
	asked, err := io.ReadAll(server)
	if err != nil || string(asked) != "question" {
		t.Fatalf("asked %q, %v", asked, err)
	}
	_, _ = io.WriteString(server, "answer")
	server.Close()
	answer, err := io.ReadAll(user)
	if err != nil || string(answer) != "answer" {
		t.Errorf("answered %q, %v", answer, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What is reset at one end is reset at the other, and not taken for an end.
func TestPipePassesResetsOn(t *testing.T) {
	user, near := tcpPair(t)
	far, server := tcpPair(t)
	s := pair(t, func(s *session.Conn) { _ = session.Pipe(s, far) })
	ended := make(chan error)
	go func() { ended <- session.Pipe(s, near) }()
	_, _ = io.WriteString(server, "x")
	if _, err := io.ReadFull(user, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = server.SetLinger(0)
	server.Close()
	if n, err := user.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the user reads %d bytes and %v", n, err)
	}
	if err := <-ended; err == nil {
		t.Error("a reset is no error")
	}
}

func TestContextEndsASession(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := session.Accept(w, r)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = s.Next()
		s.Close()
	}))
	defer server.Close()
	s, err := session.Dial(ctx, server.Client(), server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := s.Next(); !errors.Is(err, session.ErrLost) {
		t.Errorf("got %v", err)
	}
	s.Close()
}
