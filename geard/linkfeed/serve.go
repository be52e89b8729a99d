package linkfeed

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"gearmesh.dev/api"
)

// serve answers one request of a pod.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	c, ok := r.Context().Value(connKey{}).(*conn)
	if !ok || !s.begin() {
		return
	}
	defer s.busy.Done()
	p := c.pod
	p.pace.wait(p.ended, r.Context().Done())
	switch err := check(r); {
	case c.full:
		w.Header().Set("Connection", "close")
		w.Header().Set("Retry-After", "1")
		writeError(w, api.Errorf(api.CodeUnavailable, "this pod, or its host, has too many connections of this kind; at most %d are a pod's: keep one open for the stream", s.limits.perPod))
	case err != nil:
		writeError(w, err)
	case r.URL.EscapedPath() == "/v1/links":
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, "%s\n", s.now(p).body()) // who asked has gone
	default:
		s.stream(w, r, p)
	}
}

// begin counts a request in; false when the server has stopped.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.busy.Add(1)
	}
	return !s.stopped
}

// now gives what a pod is told at present.
func (s *Server) now(p *pod) state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return p.state
}

// check tells what is wrong with a request.
func check(r *http.Request) *api.Error {
	path := r.URL.EscapedPath()
	switch {
	case path != "/v1/links" && path != "/v1/links/stream":
		return api.Errorf(api.CodeNotFound, "there is no %q here; GET /v1/links and GET /v1/links/stream are", path)
	case r.Method != http.MethodGet:
		e := api.Errorf(api.CodeBadRequest, "%s cannot be done to %s; GET it", r.Method, path)
		e.Status, e.Title = http.StatusMethodNotAllowed, http.StatusText(http.StatusMethodNotAllowed)
		return e
	case r.URL.RawQuery != "":
		return api.Errorf(api.CodeBadRequest, "%s takes no parameters", path)
	case r.ContentLength != 0:
		return api.Errorf(api.CodeBadRequest, "%s takes no body", path)
	}
	return nil
}

func writeError(w http.ResponseWriter, e *api.Error) {
	w.Header().Set("Content-Type", "application/problem+json")
	if e.Status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodGet)
	}
	w.WriteHeader(e.Status)
	_ = json.NewEncoder(w).Encode(e) // who asked has gone
}

// stream sends the pod's links, then again after each change. There is no queue: who reads slowly gets fewer events, each with the newest state, and
// who does not read at all is dropped.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, p *pod) {
	out := http.NewResponseController(w)
	if out.SetReadDeadline(time.Time{}) != nil { // the request has been read; from here on only its end is waited for
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	send := func(format string, args ...any) bool {
		if out.SetWriteDeadline(time.Now().Add(s.limits.write)) != nil {
			return false
		}
		_, err := fmt.Fprintf(w, format, args...)
		return err == nil && out.Flush() == nil
	}
	alive := time.NewTicker(s.limits.heartbeat)
	defer alive.Stop()
	for sent := int64(0); ; {
		now := s.now(p)
		if now.id != sent {
			if !send("event: links\nid: %d\ndata: %s\n\n", now.id, now.body()) {
				return
			}
			sent = now.id
		}
		select {
		case <-r.Context().Done():
			return
		case <-p.ended:
			return
		case <-now.next:
		case <-alive.C:
			if !send(": alive\n\n") {
				return
			}
		}
	}
}
