package client_test

import (
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

// TestTheNextMasterIsAsked: one that is gone, or cannot do it now, is passed over, and not asked again first.
func TestTheNextMasterIsAsked(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	var busy atomic.Int64
	follower := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		busy.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"status":503,"code":"Unavailable","detail":"this master does not lead"}`))
	})
	leader := serve(t, says(200, `{"version":"1.2"}`))
	c, err := client.New(client.Config{Server: gone.Addr().String(), Others: []string{follower.URL, leader.URL}, CA: leader.ca(), ServerName: "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if v, err := c.Version(t.Context()); err != nil || v != "1.2" {
			t.Fatalf("got %q, %v", v, err)
		}
	}
	if n := busy.Load(); n != 1 {
		t.Errorf("the one that cannot do it was asked %d times, want 1", n)
	}
	if c.Server() != leader.URL {
		t.Errorf("it talks to %s", c.Server())
	}
	if _, err := c.Report(t.Context(), api.HostReport{Host: "h1"}); err != nil {
		t.Errorf("a report: %v", err)
	}
}
