package master

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"gearmesh.dev/api"
	"gearmesh.dev/api/frame"
)

const (
	// maxSessions is how many sessions in pods a master carries at once.
	maxSessions = 2048
	// sessionSilence is how long either end of a session may say nothing; both say Alive every 8 s.
	sessionSilence = 30 * time.Second
)

// ask is what the first frame of a session asks for.
type ask interface{ Validate() error }

// session makes the handler of a route whose requests become sessions with the agent of a pod's
// host. The master reads the first frame, records it, and then passes frames on as they are.
func (m *Master) session(what string, first func() ask) func(*call) error {
	return func(c *call) error {
		pod, err := m.sessionPod(c)
		if err != nil {
			return err
		}
		if m.sessions.Add(1) > maxSessions {
			m.sessions.Add(-1)
			return api.Errorf(api.CodeRateLimited, "the master carries %d sessions already", maxSessions)
		}
		defer m.sessions.Add(-1)
		agent, err := m.dialAgent(c.Context(), pod, what)
		if err != nil {
			return err
		}
		defer giveUp(agent)
		person, err := websocket.Accept(c.w, c.Request, nil)
		if err != nil {
			c.result = "refused"
			m.log.Info("a session was not opened", "pod", pod.Key().String(), "error", err)
			return nil // it has been answered
		}
		defer giveUp(person)
		person.SetReadLimit(frame.MaxMessage)
		c.result = m.carrySession(c, what, pod, person, agent, first())
		return nil
	}
}

// giveUp closes a connection at once; what it was to say has been said.
func giveUp(c *websocket.Conn) { _ = c.CloseNow() }

// sessionPod gives the pod of a session, which needs a host.
func (m *Master) sessionPod(c *call) (*api.Pod, error) {
	key := api.Key{Kind: api.KindPod, Project: c.name("project"), Name: c.name("name")}
	r, ok := m.cache.get(key)
	if !ok {
		return nil, notFound(key)
	}
	pod := r.(*api.Pod)
	if pod.Spec.Host == "" {
		return nil, api.Errorf(api.CodeUnavailable, "pod %s has no host yet", key.Name)
	}
	if !strings.EqualFold(c.Header.Get("Upgrade"), "websocket") {
		return nil, api.Errorf(api.CodeBadRequest, "this path is a session; ask for it with a websocket")
	}
	return pod, nil
}

// dialAgent opens the agent's end of a session.
func (m *Master) dialAgent(ctx context.Context, pod *api.Pod, what string) (*websocket.Conn, error) {
	u := url.URL{Scheme: "https", Host: net.JoinHostPort(string(pod.Spec.Host), strconv.Itoa(int(m.cfg.AgentPort))),
		Path: "/v1/pods/" + string(pod.Metadata.UID) + "/" + what}
	agent, resp, err := websocket.Dial(ctx, u.String(), &websocket.DialOptions{HTTPClient: m.agents})
	if err == nil {
		agent.SetReadLimit(frame.MaxMessage)
		return agent, nil
	}
	var problem api.Error
	if resp != nil && resp.Body != nil {
		defer resp.Body.Close()
		if json.NewDecoder(resp.Body).Decode(&problem) == nil && problem.Detail != "" {
			return nil, api.Errorf(api.CodeUnavailable, "host %s answers: %s", pod.Spec.Host, plain(problem.Detail))
		}
	}
	m.log.Info("opening a session with a host", "host", pod.Spec.Host, "error", err)
	return nil, api.Errorf(api.CodeUnavailable, "the agent of host %s does not answer: %s", pod.Spec.Host, plain(rootCause(err)))
}

// rootCause gives the last part of an error's text: what happened, without what was being done.
func rootCause(err error) string {
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err.Error()
}

// carrySession takes a session from its first frame to its end, which it gives for the record.
func (m *Master) carrySession(c *call, what string, pod *api.Pod, person, agent *websocket.Conn, first ask) string {
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.Context()))
	defer cancel()
	message, err := readSession(ctx, person)
	if err != nil {
		return "lost"
	}
	c.object = pod.Key().String()
	if err := readFirst(message, first); err != nil {
		finish(ctx, person, err)
		return string(problemOf(err).Code)
	}
	m.router.audits.log.Info(what, "identity", c.who.String(), "from", remoteAddr(c.Request).String(), "object", c.object, "host", pod.Spec.Host, "asked", auditText(first))
	if err := agent.Write(ctx, websocket.MessageBinary, message); err != nil {
		finish(ctx, person, lostHost(pod))
		return "lost"
	}
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	work.Go(func() {
		passOn(ctx, person, agent)
		cancel() // the person has gone: the agent learns it by the end of its connection
		giveUp(agent)
	})
	work.Go(func() {
		select {
		case <-m.stopping:
			finish(ctx, person, api.Errorf(api.CodeUnavailable, "the master is being stopped, and the session ends with it"))
		case <-ctx.Done():
		}
	})
	last := passOn(ctx, agent, person)
	switch {
	case last.Type == frame.Exit:
		_ = person.Close(websocket.StatusNormalClosure, "")
		return "exit " + strconv.Itoa(last.Code())
	case last.Type == frame.Error:
		_ = person.Close(websocket.StatusNormalClosure, "")
		return "failed"
	case ctx.Err() == nil:
		finish(ctx, person, lostHost(pod))
	}
	return "lost"
}

func lostHost(pod *api.Pod) error {
	return api.Errorf(api.CodeUnavailable, "the connection to the agent of host %s was lost; what ran in pod %s may still run", pod.Spec.Host, pod.Metadata.Name)
}

// readFirst reads and checks the first frame, strictly.
func readFirst(message []byte, first ask) error {
	f, err := frame.Parse(message)
	if err != nil {
		return api.Errorf(api.CodeBadRequest, "%v", err)
	}
	if f.Type != frame.Start {
		return api.Errorf(api.CodeBadRequest, "the first frame is %s; it should be start", f.Type)
	}
	if err := api.Decode(f.Payload, first); err != nil {
		return err
	}
	return first.Validate()
}

// auditText says what was asked for. A request for a session holds no secrets but those that people write
// into commands; environments are not part of it.
func auditText(first ask) string {
	switch a := first.(type) {
	case *api.ExecRequest:
		return fmt.Sprintf("%.4000q", a.Command)
	case *api.ForwardRequest:
		return fmt.Sprintf("port %d", a.Port)
	case *api.CopyRequest:
		if a.Write {
			return fmt.Sprintf("write %q", a.Path)
		}
		return fmt.Sprintf("read %q", a.Path)
	}
	return ""
}

// passOn carries frames from one connection to the other until either ends, and gives the last one.
func passOn(ctx context.Context, from, to *websocket.Conn) (last frame.Frame) {
	for {
		message, err := readSession(ctx, from)
		if err != nil {
			return last
		}
		f, err := frame.Parse(message)
		if err != nil {
			return last
		}
		if to.Write(ctx, websocket.MessageBinary, message) != nil {
			return last
		}
		if f.Type != frame.Alive {
			last = frame.Frame{Type: f.Type}
			if f.Type == frame.Exit {
				last = f
			}
		}
	}
}

// readSession reads one message. Time that passes between calls does not count as silence.
func readSession(ctx context.Context, from *websocket.Conn) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, sessionSilence)
	defer cancel()
	_, message, err := from.Read(ctx)
	return message, err
}

// finish tells a person why a session ends.
func finish(ctx context.Context, person *websocket.Conn, why error) {
	text, err := json.Marshal(problemOf(why))
	if err != nil || len(text) > frame.MaxPayload {
		return
	}
	if person.Write(ctx, websocket.MessageBinary, frame.Append(nil, frame.Error, text)) == nil {
		_ = person.Close(websocket.StatusNormalClosure, "")
	}
}

// sessionRoutes are the routes whose requests become sessions.
func (m *Master) sessionRoutes() []route {
	one := func(id, what, summary string, first func() ask) route {
		return route{id: id, method: http.MethodGet, path: "/v1/projects/{project}/pods/{name}/" + what, who: forPeople, audit: true, session: true,
			status: http.StatusSwitchingProtocols, summary: summary, handle: m.session(what, first)}
	}
	return []route{
		one("execInPod", "exec", "Run a command in a container (a websocket)", func() ask { return &api.ExecRequest{} }),
		one("forwardToPod", "forward", "Connect to a TCP port in a pod (a websocket)", func() ask { return &api.ForwardRequest{} }),
		one("copyFiles", "files", "Copy files out of a container, or into one (a websocket)", func() ask { return &api.CopyRequest{} }),
	}
}
