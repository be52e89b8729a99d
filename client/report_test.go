package client_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

// TestAReportThatSaysTheSameIsAHeartbeat: by the mark of the last one, until a master wants it whole.
func TestAReportThatSaysTheSameIsAHeartbeat(t *testing.T) {
	beats := says(204, "")
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.RequestURI, "/heartbeat/m1") {
			beats(w, r)
			return
		}
		_, _ = fmt.Fprint(w, `{"mark":"m1","every":"9s"}`)
	})
	c := s.client(t, func(cfg *client.Config) { cfg.Attempts = 1 })
	r := api.HostReport{Host: "h1", Revision: 1}
	told := func(change func(), want ...string) {
		t.Helper()
		before := len(s.calls())
		change()
		if a, err := c.Report(t.Context(), r); err != nil || a.Every.Std() != 9*time.Second {
			t.Errorf("a report has the answer %+v, %v", a, err)
		}
		var got []string
		for _, call := range s.calls()[before:] {
			what := call.uri[strings.LastIndex(call.uri, "/")+1:]
			got = append(got, what)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	const beat = "m1"
	told(func() {}, "report")
	told(func() {}, beat)
	told(func() { r.Revision = 2 }, beat)
	told(func() { r.Version = "v2" }, "report")
	told(func() {}, beat)
	told(func() { beats = fails(api.CodeConflict) }, beat, "report")
	told(func() { beats = fails(api.CodeNotFound) }, beat, "report") // an older master, which has no such path
	beats = fails(api.CodeUnavailable)
	if _, err := c.Report(t.Context(), r); err == nil {
		t.Error("nobody took the report, and there is no error")
	}
	told(func() { beats = says(204, "") }, beat)
}

// TestWithoutAMarkEachReportIsWhole: an older master gives none.
func TestWithoutAMarkEachReportIsWhole(t *testing.T) {
	s := serve(t, says(204, ""))
	c := s.client(t)
	for range 3 {
		if a, err := c.Report(t.Context(), api.HostReport{Host: "h1"}); err != nil || a.Every != 0 {
			t.Errorf("got %+v, %v", a, err)
		}
	}
	for _, call := range s.calls() {
		if call.uri != "/v1/hosts/h1/report" {
			t.Errorf("asked for %s", call.uri)
		}
	}
}

// TestSilenceGrowsWhenTheMasterSaysSo: a stream that says so may be silent for longer than the one that does not.
func TestSilenceGrowsWhenTheMasterSaysSo(t *testing.T) {
	t.Parallel()
	const short = time.Second
	late := func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(short + short/2)
		_, _ = fmt.Fprint(w, `{"term":1,"revision":2}`+"\n")
	}
	var paced atomic.Bool
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		paced.Store(r.Header.Get(api.PacedHeader) == "1")
		streams(late, `{"full":true,"term":1,"revision":1,"every":"1h"}`)(w, r)
	})
	told := false
	for p, err := range s.client(t, func(c *client.Config) { c.Silence = short }).Desired(t.Context(), "h1") {
		if err != nil && told {
			t.Fatal(err)
		}
		// A slow machine may be silent before the master has told: then there is another stream.
		if told = p.Revision == 1; p.Revision == 2 {
			break
		}
	}
	if !paced.Load() {
		t.Error("the client does not say that it can be told")
	}
}

// TestTheStreamFollowsTheReport: when another master takes the report, the stream to the one before is given up, however long it may be silent.
func TestTheStreamFollowsTheReport(t *testing.T) {
	hangs := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.RequestURI, "/report") {
			fails(api.CodeUnavailable)(w, r)
			return
		}
		streams(waits, `{"full":true,"term":1,"revision":1,"every":"20s"}`)(w, r)
	})
	leads := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.RequestURI, "/report") {
			says(204, "")(w, r)
			return
		}
		streams(waits, `{"full":true,"term":2,"revision":9}`)(w, r)
	})
	c, err := client.New(client.Config{Server: hangs.URL, Others: []string{leads.URL}, CA: hangs.ca(), ServerName: "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for p := range c.Desired(t.Context(), "h1") {
		if p.Revision == 9 {
			break
		}
		if p.Revision == 1 {
			if _, err := c.Report(t.Context(), api.HostReport{Host: "h1"}); err != nil {
				t.Fatal(err)
			}
		}
	}
}
