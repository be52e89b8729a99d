package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

func TestParsePorts(t *testing.T) {
	for text, want := range map[string]portPair{"80": {80, 80}, "8080:80": {8080, 80}, ":80": {0, 80}, "0:80": {0, 80}} {
		if got, err := parsePorts(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "a", "1:", "1:2:3", "70000", "-1", "1:0"} {
		if got, err := parsePorts(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// Several connections at once reach the pod, and each direction of each ends by itself.
func TestForward(t *testing.T) {
	m := newFakeMaster()
	defer m.stop()
	pod := &api.Pod{Header: api.Header{Kind: api.KindPod, Metadata: api.Metadata{Project: "shop", Name: "web-1"}}}
	m.store(pod)
	c, err := client.New(client.Config{Server: m.URL, ServerName: client.MasterName, CA: m.authority, Token: fakeToken})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := newApp(streams{out: io.Discard, err: io.Discard, getenv: func(string) string { return "" }})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	done := make(chan struct{})
	go func() { defer close(done); a.acceptAll(ctx, c, pod, l, 6379) }()
	var conns []*net.TCPConn
	for range 3 {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn.(*net.TCPConn))
	}
	for i, conn := range conns {
		fmt.Fprintf(conn, "hello %d", i)
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	for i, conn := range conns {
		if got, err := io.ReadAll(conn); err != nil || string(got) != fmt.Sprintf("port 6379: hello %d", i) {
			t.Errorf("connection %d reads %q, %v", i, got, err)
		}
		conn.Close()
	}
	l.Close()
	<-done
	cancel()
}
