package router_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/router"
)

// serveAgent answers GET /v1/directory on a unix socket: blank lines, n directories, and the end.
func serveAgent(t *testing.T, socket string, hosts ...api.Name) (stop func()) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/directory", func(w http.ResponseWriter, _ *http.Request) {
		for _, h := range hosts {
			line, err := json.Marshal(api.Directory{Hosts: []api.HostEntry{{Name: h}}})
			if err != nil {
				t.Error(err)
			}
			fmt.Fprintf(w, "\n%s\n\n", line)
		}
	})
	s := &http.Server{Handler: mux}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	return func() { s.Close(); <-done }
}

func TestFollowReconnects(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "a")
	stop := serveAgent(t, socket, "one", "two")
	var got []api.Name
	for d := range router.Follow(t.Context(), socket, slog.New(slog.DiscardHandler)) {
		got = append(got, d.Hosts[0].Name)
		switch len(got) {
		case 2: // the agent is upgraded
			stop()
			stop = serveAgent(t, socket, "three", "four")
		case 4:
			stop()
			if want := "[one two three four]"; fmt.Sprint(got) != want {
				t.Errorf("got %v, want %s", got, want)
			}
			return
		}
	}
	t.Errorf("the stream ended after %v", got)
}

func TestFollowEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range router.Follow(ctx, filepath.Join(t.TempDir(), "none"), slog.New(slog.DiscardHandler)) {
		t.Error("a directory out of nowhere")
	}
}
