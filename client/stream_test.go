package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

// hush is how long a stream may be silent in a test that waits for the end of it, which a starved machine must not bring about.
const hush = 3 * time.Second

// patches has silence end a stream after that.
func patches(c *client.Config) { c.Silence = hush }

// patient has no silence end a stream.
func patient(c *client.Config) { c.Silence = time.Hour }

const full = `{"full":true,"term":1,"revision":%d}`

// TestDesired checks that patches come over one connection after another, whatever ends them.
func TestDesired(t *testing.T) {
	first, second := fmt.Sprintf(full, 1), fmt.Sprintf(full, 9)
	again := streams(waits, second)
	tests := map[string]struct {
		broken http.HandlerFunc
		want   []string // patches by revision, errors by a word
	}{
		"the master ends it":       {streams(nil, first, "", `{"term":1,"revision":2}`), []string{"1", "2", "9"}},
		"cut":                      {streams(cut, first), []string{"1", "reading its stream", "9"}},
		"cut within a line":        {streams(cutWithin, first), []string{"1", "reading its stream", "9"}},
		"silent":                   {streams(waits, first), []string{"1", "says nothing any more", "9"}},
		"dripping is silence":      {streams(drips, first), []string{"1", "says nothing any more", "9"}},
		"no answer at all":         {waits, []string{"says nothing any more", "9"}},
		"empty lines keep it":      {streams(emptyLines, first), []string{"1", "2", "9"}},
		"garbage":                  {streams(waits, first, "<html>"), []string{"1", `has "<html>"`, "9"}},
		"another type":             {streams(waits, `{"full":true,"revision":"one"}`), []string{"its stream has", "9"}},
		"starts without a full":    {streams(waits, `{"term":1,"revision":4}`), []string{"does not start with a full patch", "9"}},
		"not the leader":           {fails(api.CodeUnavailable), []string{"it is so", "9"}},
		"the host is gone":         {fails(api.CodeNotFound), []string{"it is so", "9"}},
		"a line longer than a buf": {streams(nil, `{"full":true,"revision":3`+strings.Repeat(" ", 200<<10)+"}"), []string{"3", "9"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, inTurn(tt.broken, again))
			how := patient
			if strings.Contains(strings.Join(tt.want, " "), "says nothing") || name == "empty lines keep it" {
				how = patches
			}
			var got []string
			for p, err := range s.client(t, how).Desired(t.Context(), "h1") {
				got = append(got, word(p.Revision, err))
				if p.Revision == 9 {
					break
				}
			}
			wantWords(t, got, tt.want)
			if uri := s.calls()[0].uri; uri != "/v1/hosts/h1/desired" {
				t.Errorf("asked for %s", uri)
			}
		})
	}
}

// cutWithin ends a stream, as a master that is killed does, in the middle of a line.
func cutWithin(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, `{"term":1,"revision":2}`)
}

// emptyLines keeps a stream alive for longer than the silence that ends it.
func emptyLines(w http.ResponseWriter, r *http.Request) {
	for begun := time.Now(); time.Since(begun) < hush+hush/4; time.Sleep(50 * time.Millisecond) {
		_, _ = io.WriteString(w, "\n")
		w.(http.Flusher).Flush()
	}
	_, _ = io.WriteString(w, `{"term":1,"revision":2}`+"\n")
}

func word(revision int64, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(revision)
}

// wantWords checks that each line holds its word, or is it when the word is a number.
func wantWords(t *testing.T, got, want []string) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		_, notNumber := strconv.Atoi(want[i])
		if notNumber != nil && !strings.Contains(got[i], want[i]) || notNumber == nil && got[i] != want[i] {
			t.Errorf("%d: got %q, want %q", i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestSilenceIsNotTheCallers checks that a caller may take its time between two lines.
func TestSilenceIsNotTheCallers(t *testing.T) {
	t.Parallel()
	ready := make(chan struct{})
	s := serve(t, streams(func(w http.ResponseWriter, _ *http.Request) {
		<-ready
		_, _ = io.WriteString(w, `{"revision":2}`+"\n")
	}, fmt.Sprintf(full, 1)))
	var got []string
	for p, err := range s.client(t, patches).Desired(t.Context(), "h1") {
		got = append(got, word(p.Revision, err))
		if p.Revision == 2 || err != nil {
			break
		}
		time.Sleep(hush + hush/4)
		close(ready)
	}
	wantWords(t, got, []string{"1", "2"})
}

func TestStreamsEndWithTheirContext(t *testing.T) {
	s := serve(t, waits)
	c := s.client(t)
	streams := map[string]func(context.Context) int{
		"desired": func(ctx context.Context) (n int) {
			for range c.Desired(ctx, "h1") {
				n++
			}
			return n
		},
		"watch": func(ctx context.Context) (n int) {
			for range c.Watch(ctx, client.WatchOptions{}) {
				n++
			}
			return n
		},
	}
	for name, run := range streams {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if n := run(ctx); n != 0 {
				t.Errorf("%d things were given", n)
			}
		})
	}
}

func TestLogs(t *testing.T) {
	tail := 5
	s := serve(t, streams(nil, `{"host":"h1","text":"one"}`, `{"host":"h2","text":"two"}`))
	var got []string
	for l, err := range s.client(t).Logs(t.Context(), client.LogOptions{Project: "shop", Service: "web", Pod: "web-1", Follow: true, Tail: &tail, Since: time.Minute}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, l.Text)
	}
	if diff := cmp.Diff([]string{"one", "two"}, got); diff != "" {
		t.Error(diff)
	}
	if uri := s.calls()[0].uri; uri != "/v1/projects/shop/logs?follow=1&pod=web-1&service=web&since=1m0s&tail=5" {
		t.Errorf("asked for %s", uri)
	}
}

func TestLogsTellThatTheyWereCut(t *testing.T) {
	s := serve(t, streams(cut, `{"text":"one"}`))
	var last error
	for _, err := range s.client(t).Logs(t.Context(), client.LogOptions{Project: "shop"}) {
		last = err
	}
	var connect *client.ConnectError
	if !errors.As(last, &connect) {
		t.Errorf("got %v", last)
	}
}

// FuzzStream sends any bytes as a stream and checks that each whole line comes as it is, against
// bytes.Split, and that nothing else does.
func FuzzStream(f *testing.F) {
	for _, s := range []string{"", "\n", `{"text":"a"}` + "\n", `{"text":"a"}`, "{}\n\n{}\n", "[]\n", "{\"text\":1}\n", strings.Repeat("x", 70<<10) + "\n", "\xff\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(data) })
		given := 0
		var last error
		for _, err := range s.client(t).Logs(t.Context(), client.LogOptions{Project: "p"}) {
			if err != nil {
				last = err
				break
			}
			given++
		}
		whole := 0
		lines := bytes.Split(data, []byte("\n"))
		for _, l := range lines[:len(lines)-1] {
			if len(bytes.TrimSpace(l)) > 0 {
				whole++
			}
		}
		clean := len(lines[len(lines)-1]) == 0
		if given > whole || last == nil && (given != whole || !clean) {
			t.Errorf("%d of %d lines, error %v", given, whole, last)
		}
	})
}
