// Package session carries frames (package frame) over a websocket: the two ends of gear exec,
// gear port-forward and gear cp.
//
// Each end says Alive every few seconds, and gives a session up in which it has waited for the
// other for longer than Silence. Time that an end takes to handle a frame does not count: a paused
// terminal loses no session.
package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"gearmesh.dev/api"
	"gearmesh.dev/api/frame"
)

const (
	// Silence is how long an end waits for the other's next frame.
	Silence = 30 * time.Second
	// aliveEvery is how often an end says that it lives.
	aliveEvery = 8 * time.Second
	// chunk is how much of a stream goes into one frame.
	chunk = 32 << 10
)

// ErrLost is why a session ended in which the other end did not say the last word.
var ErrLost = errors.New("the connection was lost")

// Conn is one end of a session. Frames may be sent from several goroutines; one reads.
type Conn struct {
	ws   *websocket.Conn
	ctx  context.Context // ends with the session
	stop context.CancelFunc
	work sync.WaitGroup
}

// Dial opens a session. When the other side answers with an HTTP error, that is an *api.Error, if it is one.
func Dial(ctx context.Context, c *http.Client, url string, header http.Header) (*Conn, error) {
	ws, resp, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: c, HTTPHeader: header})
	if err != nil {
		return nil, refusal(resp, err)
	}
	return begin(ctx, ws), nil
}

// refusal reads why the other side did not open a session.
func refusal(resp *http.Response, err error) error {
	if resp == nil || resp.Body == nil {
		return err
	}
	defer resp.Body.Close()
	// The library keeps the first kilobyte of the body.
	body, readErr := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var problem api.Error
	if readErr == nil && json.Unmarshal(body, &problem) == nil && problem.Code != "" {
		return &problem
	}
	return fmt.Errorf("it answers %s: %w", resp.Status, err)
}

// Accept makes a session of a request. When it fails the request has been answered.
func Accept(w http.ResponseWriter, r *http.Request) (*Conn, error) {
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return nil, fmt.Errorf("opening a session: %w", err)
	}
	return begin(r.Context(), ws), nil
}

func begin(ctx context.Context, ws *websocket.Conn) *Conn {
	ws.SetReadLimit(frame.MaxMessage)
	c := &Conn{ws: ws}
	c.ctx, c.stop = context.WithCancel(ctx)
	c.work.Go(c.sayAlive)
	return c
}

// sayAlive ends the session when the other end cannot be told.
func (c *Conn) sayAlive() {
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if c.Send(frame.Alive, nil) != nil {
				c.stop()
				return
			}
		case <-c.ctx.Done():
			return
		}
	}
}

// Context ends with the session, or with the context it was opened with.
func (c *Conn) Context() context.Context { return c.ctx }

// Close ends the session and waits for what it started. The other end sees ErrLost unless Exit or
// Error was the last frame.
func (c *Conn) Close() {
	c.stop()
	_ = c.ws.CloseNow() // the last frame has said all
	c.work.Wait()
}

// Finish sends the last frame and ends the session in the other end's own time.
func (c *Conn) Finish(t frame.Type, payload []byte) {
	if c.Send(t, payload) == nil {
		_ = c.ws.Close(websocket.StatusNormalClosure, "") // waits a few seconds for the other's close
	}
	c.Close()
}

// Fail tells the other end why the session ends. An error that is no *api.Error is told as one of
// the kind that may go away.
func (c *Conn) Fail(err error) { c.Finish(frame.Error, ErrorPayload(err)) }

// ErrorPayload gives the payload of an Error frame.
func ErrorPayload(err error) []byte {
	var problem *api.Error
	if !errors.As(err, &problem) {
		problem = api.Errorf(api.CodeUnavailable, "%.2000s", err.Error())
	}
	text, err := json.Marshal(problem)
	if err != nil || len(text) > frame.MaxPayload {
		return []byte(`{"code":"Internal","detail":"the error is too long to be told"}`)
	}
	return text
}

// Send sends a frame.
func (c *Conn) Send(t frame.Type, payload []byte) error {
	message := frame.Append(make([]byte, 0, 1+len(payload)), t, payload)
	if err := c.ws.Write(c.ctx, websocket.MessageBinary, message); err != nil {
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	return nil
}

// SendJSON sends a Start frame.
func (c *Conn) SendJSON(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(text) > frame.MaxPayload {
		return api.Errorf(api.CodeTooLarge, "what is asked for has %d bytes; the most is %d", len(text), frame.MaxPayload)
	}
	return c.Send(frame.Start, text)
}

// Next gives the next frame but Alive. An Error frame comes as its *api.Error; an end without a last
// word, or Silence, as ErrLost.
func (c *Conn) Next() (frame.Frame, error) {
	for {
		f, err := c.read()
		switch {
		case err != nil:
			return frame.Frame{}, err
		case f.Type == frame.Error:
			var problem api.Error
			if err := json.Unmarshal(f.Payload, &problem); err != nil || problem.Code == "" {
				return frame.Frame{}, fmt.Errorf("the session ended with an error that cannot be read: %.200q", f.Payload)
			}
			return frame.Frame{}, &problem
		case f.Type != frame.Alive:
			return f, nil
		}
	}
}

func (c *Conn) read() (frame.Frame, error) {
	ctx, cancel := context.WithTimeout(c.ctx, Silence)
	defer cancel()
	_, message, err := c.ws.Read(ctx)
	if err != nil {
		if ctx.Err() != nil && c.ctx.Err() == nil {
			err = fmt.Errorf("no sign of life for %v", Silence)
		}
		return frame.Frame{}, fmt.Errorf("%w: %w", ErrLost, err)
	}
	return frame.Parse(message)
}

// NextStart reads the first frame into v, strictly.
func (c *Conn) NextStart(v any) error {
	f, err := c.Next()
	if err != nil {
		return err
	}
	if f.Type != frame.Start {
		return api.Errorf(api.CodeBadRequest, "the first frame is %s; it should be start", f.Type)
	}
	return api.Decode(f.Payload, v)
}

// Writer gives a writer whose bytes become frames of one type.
func (c *Conn) Writer(t frame.Type) io.Writer { return writer{c, t} }

type writer struct {
	conn *Conn
	kind frame.Type
}

func (w writer) Write(b []byte) (int, error) {
	for sent := 0; sent < len(b); {
		n := min(chunk, len(b)-sent)
		if err := w.conn.Send(w.kind, b[sent:sent+n]); err != nil {
			return sent, err
		}
		sent += n
	}
	return len(b), nil
}
