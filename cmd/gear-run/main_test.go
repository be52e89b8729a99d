package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestRun(t *testing.T) {
	tests := map[string]struct {
		args string
		code int
		want string
	}{
		"help":           {"--help", 0, "gear-run run UID/CONTAINER"},
		"nothing":        {"", 2, "want a command and one argument"},
		"unknown":        {"fly k3v7qxw2m5n4a6bz", 2, `unknown command "fly"`},
		"no uid":         {"run web/main", 2, "16 characters are needed"},
		"no container":   {"run k3v7qxw2m5n4a6bz", 2, "container: a name is needed"},
		"climbing":       {"run k3v7qxw2m5n4a6bz/../x", 2, "a name has only"},
		"no such pod":    {"run k3v7qxw2m5n4a6bz/main", 1, "no such file or directory"},
		"no such net":    {"net-up k3v7qxw2m5n4a6bz", 1, "no such file or directory"},
		"net of no uid":  {"net-up ../../../etc/pass", 1, "16 characters are needed"},
		"down of no uid": {"net-down x", 1, "16 characters are needed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			code := exitCode(run(t.Context(), strings.Fields(tt.args), &out, &out), &out)
			if code != tt.code || !strings.Contains(out.String(), tt.want) {
				t.Errorf("exit code %d, %q; want %d, %q", code, out.String(), tt.code, tt.want)
			}
		})
	}
}

func TestExitCodeOfTheContainer(t *testing.T) {
	var out bytes.Buffer
	if code := exitCode(exitError(137), &out); code != 137 || out.Len() != 0 {
		t.Errorf("got %d, %q", code, out.String())
	}
}

// broken is a stream whose journald is gone.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, &os.PathError{Op: "write", Err: syscall.EPIPE} }

func TestJournalWriter(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "stdout")
	w := &journalWriter{socket: socket, name: func() (string, string) { return "web", "gear-shop-web.service" }, priority: 6, out: broken{}}
	if _, err := w.Write([]byte("lost\n")); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("without a journal: %v", err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := w.Write([]byte("one\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("two\n")); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for _, want := range []string{"web", "gear-shop-web.service", "6", "0", "0", "0", "0", "one", "two"} {
		if line, err := in.ReadString('\n'); line != want+"\n" {
			t.Errorf("got %q, %v; want %q", line, err, want)
		}
	}
}

func TestLayHost(t *testing.T) {
	dir := t.TempDir()
	if err := layHost(context.Background(), filepath.Join(dir, "none")); err != nil {
		t.Errorf("a host without an agent: %v", err)
	}
	file := filepath.Join(dir, "hostrules.json")
	for text, want := range map[string]string{"": "unexpected end", "{}": "the host's rules in"} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := layHost(context.Background(), file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}
