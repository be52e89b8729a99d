package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"gearmesh.dev/api"
)

// lines gives the lines of one NDJSON stream, the empty ones too, each valid until the next. After
// an error, or when the master has ended the stream, there is no more. idle gives how long the
// next line may take to come, nil for ever; what comes of a line does not count until its end has come.
func (c *Client) lines(ctx context.Context, req request, idle func() time.Duration) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		watch := watchdog(idle, func() { cancel(ErrSilent) })
		defer watch.stop()
		res, err := c.send(ctx, req, "", nil)
		if err != nil {
			yield(nil, plain(err))
			return
		}
		defer res.Body.Close()
		in := lineReader{r: bufio.NewReaderSize(res.Body, 64<<10)}
		for {
			line, err := in.next()
			watch.stop() // what the caller does with a line is not the master's silence
			switch {
			case errors.Is(err, io.EOF) && ctx.Err() == nil: // giving up can look like an end too
				return
			case err != nil:
				yield(nil, c.connectError(ctx, &answerError{"reading its stream", true, err}))
				return
			case !yield(line, nil):
				return
			}
			watch.start()
		}
	}
}

// timer calls a function when it is not started anew in time.
type timer struct {
	t    *time.Timer
	idle func() time.Duration
}

func watchdog(idle func() time.Duration, f func()) timer {
	if idle == nil {
		return timer{}
	}
	return timer{time.AfterFunc(idle(), f), idle}
}

func (w timer) start() {
	if w.t != nil {
		w.t.Reset(w.idle())
	}
}

func (w timer) stop() {
	if w.t != nil {
		w.t.Stop()
	}
}

// lineReader splits a stream into lines of at most maxLine bytes.
type lineReader struct {
	r    *bufio.Reader
	long []byte // of a line that does not fit the reader's buffer
}

// next gives a line without its end; io.EOF only between lines.
func (l *lineReader) next() ([]byte, error) {
	l.long = l.long[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		switch {
		case err == nil && len(l.long) == 0:
			return bytes.TrimSpace(part), nil
		case err == nil:
			return bytes.TrimSpace(append(l.long, part...)), nil
		case errors.Is(err, io.EOF) && len(l.long)+len(part) > 0:
			return nil, io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(l.long)+len(part) > maxLine:
			return nil, fmt.Errorf("a line is over %d bytes", maxLine)
		}
		l.long = append(l.long, part...)
	}
}

// decoded gives the lines of one stream, each as a T.
func decoded[T any](ctx context.Context, c *Client, req request, idle func() time.Duration) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		for line, err := range c.lines(ctx, req, idle) {
			if err != nil {
				yield(none, err)
				return
			}
			if len(line) == 0 { // shows only that the stream lives
				continue
			}
			var v T
			if err := json.Unmarshal(line, &v); err != nil {
				yield(none, c.connectError(ctx, &answerError{fmt.Sprintf("its stream has %.60q", line), false, err}))
				return
			}
			if !yield(v, nil) {
				return
			}
		}
	}
}

// LogOptions says which lines to read.
type LogOptions struct {
	Project api.Name
	Service api.Name      // only of this service; of all when empty
	Pod     api.Name      // only of this pod; of all when empty
	Follow  bool          // wait for more lines
	Tail    *int          // at most this many old lines of each container; all when nil
	Since   time.Duration // only lines that are not older; all when 0
	// Container is one of a pod; all when empty.
	Container api.Name
	Grep      string   // only lines that match a regular expression (RE2); of those, Tail
	Previous  bool     // of the run of a container before its newest
	System    bool     // of a pod: also what systemd and the kernel say of it
	Gone      bool     // also of pods that are gone: every host is asked
	Host      api.Name // this host's own journal, instead of a project's
	Unit      string   // of Host: only of this systemd unit
}

func (o LogOptions) query() url.Values {
	q := url.Values{}
	if o.Service != "" {
		q.Set("service", string(o.Service))
	}
	if o.Pod != "" {
		q.Set("pod", string(o.Pod))
	}
	if o.Follow {
		q.Set("follow", "1")
	}
	if o.Tail != nil {
		q.Set("tail", strconv.Itoa(*o.Tail))
	}
	if o.Since > 0 {
		q.Set("since", o.Since.String())
	}
	for key, text := range map[string]string{"container": string(o.Container), "grep": o.Grep, "unit": o.Unit} {
		if text != "" {
			q.Set(key, text)
		}
	}
	for key, on := range map[string]bool{"previous": o.Previous, "system": o.System, "gone": o.Gone} {
		if on {
			q.Set(key, "1")
		}
	}
	return q
}

// Logs gives what containers wrote, merged by time. It ends with an error when the connection is
// lost: lines may then be missing, which only the caller can judge.
func (c *Client) Logs(ctx context.Context, o LogOptions) iter.Seq2[api.LogLine, error] {
	path := []string{"v1", "projects", string(o.Project), "logs"}
	if o.Host != "" {
		path = []string{"v1", "hosts", string(o.Host), "logs"}
	}
	return decoded[api.LogLine](ctx, c, request{method: http.MethodGet, path: path, query: o.query()}, nil)
}

// EventOptions say which events to give; the zero value gives all that are kept.
type EventOptions struct {
	Project, Name, Service api.Name
	Kind                   api.Kind
	Since                  time.Duration
	Follow                 bool // go on, and give what happens
}

// Events gives what happened, the oldest first. It ends with an error when the connection is lost.
func (c *Client) Events(ctx context.Context, o EventOptions) iter.Seq2[api.Event, error] {
	q := url.Values{}
	for key, value := range map[string]string{"project": string(o.Project), "name": string(o.Name), "service": string(o.Service), "kind": string(o.Kind)} {
		if value != "" {
			q.Set(key, value)
		}
	}
	if o.Since > 0 {
		q.Set("since", o.Since.String())
	}
	if o.Follow {
		q.Set("follow", "1")
	}
	return decoded[api.Event](ctx, c, request{method: http.MethodGet, path: []string{"v1", "events"}, query: q}, nil)
}
