package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/golden"
)

func TestSpec(t *testing.T) {
	s := Spec{
		Name: "gear.shop.web-7f3k2.main", Image: "registry.example.com/shop/web:1",
		Command: []string{"/bin/web"}, Args: []string{"-v"}, User: "1000", WorkDir: "/srv", Hostname: "web-7f3k2",
		Env:    map[string]string{"B": "2", "A": "1=$x"},
		Labels: map[string]string{LabelUID: "k3v7qxw2m5n4a6bz"},
		Slice:  `gear-shop-web\x2d7f3k2.slice`,
		Mounts: []Mount{{"/var/lib/gear/pods/u/hosts", "/etc/hosts", true}, {"/var/lib/gear/volumes/p/s/v", "/data", false}},
		CPU:    api.CPU(250), Memory: api.Bytes(64 << 20), StopSignal: "SIGQUIT", StopGrace: 1500 * time.Millisecond,
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	if err := errors.Join(enc.Encode(s.config()), enc.Encode(s.hostConfig())); err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "spec.json", out.Bytes())
}

func TestRegistryFault(t *testing.T) {
	tests := map[string]error{
		"manifest for web:9 not found: manifest unknown: manifest unknown":                                                                        ErrNoImage,
		"pull access denied for web, repository does not exist or may require 'docker login': denied: requested access to the resource is denied": ErrDenied,
		`Get "https://10.0.0.9:5000/v2/": dial tcp 10.0.0.9:5000: connect: connection refused`:                                                    ErrRegistry,
		`Get "https://reg.invalid/v2/": dial tcp: lookup reg.invalid: no such host`:                                                               ErrRegistry,
		`Get "https://10.0.0.9/v2/": x509: certificate signed by unknown authority`:                                                               ErrRegistry,
		`Get "https://10.0.0.9/v2/": http: server gave HTTP response to HTTPS client`:                                                             ErrRegistry,
		"unauthorized: authentication required":                                                                                                   ErrDenied,
		"no space left on device":                                                                                                                 nil,
	}
	for msg, want := range tests {
		if got := registryFault(msg); !errors.Is(got, want) {
			t.Errorf("%q is %v; want %v", msg, got, want)
		}
	}
}

func TestReadPull(t *testing.T) {
	var steps []string
	err := readPull(strings.NewReader(`{"status":"Pulling from shop/web","id":"1"}
{"status":"Downloading","id":"a1","progress":"[=> ]"}
{"status":"Downloading","id":"a1","progress":"[==>]"}
{"status":"Digest: sha256:00"}
{"errorDetail":{"message":"boom"},"error":"boom"}
{"status":"never"}`), func(s string) { steps = append(steps, s) })
	if err == nil || err.Error() != "boom" {
		t.Errorf("got %v, want the stream's error", err)
	}
	if got := strings.Join(steps, "|"); got != "1: Pulling from shop/web|a1: Downloading|Digest: sha256:00" {
		t.Errorf("steps are %s", got)
	}
}

func TestNoEngine(t *testing.T) {
	e, err := New(filepath.Join(t.TempDir(), "docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	_, create := e.Create(t.Context(), Spec{Name: "x"})
	_, wait := e.Wait(t.Context(), "x")
	_, _, exec := e.Exec(t.Context(), "x", []string{"true"})
	logs := e.Logs(t.Context(), "x", time.Time{}, true, func(Entry) error { return nil })
	for what, err := range map[string]error{"ping": e.Ping(t.Context()), "create": create, "wait": wait, "exec": exec, "logs": logs, "pull": e.Pull(t.Context(), "a:1", nil)} {
		if !errors.Is(err, ErrDown) {
			t.Errorf("%s: got %v, want ErrDown", what, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Ping(ctx); errors.Is(err, ErrDown) || err == nil {
		t.Errorf("a caller who gave up gets %v; the engine is not to blame", err)
	}
}

// frame makes one frame as the engine does.
func frame(stream byte, text string) string {
	head := [8]byte{stream}
	binary.BigEndian.PutUint32(head[4:], uint32(len(text)))
	return string(head[:]) + text
}

func TestReadFrames(t *testing.T) {
	at := "2026-11-22T09:26:23.000000001Z"
	in := frame(1, at+" hello world\n") + frame(2, at+" \n") + frame(1, "no stamp\n") + frame(1, "")
	var got []string
	err := readFrames(strings.NewReader(in), func(e Entry) error {
		got = append(got, fmt.Sprintf("%v %d %q", e.Stderr, e.Time.Nanosecond(), e.Text))
		return nil
	})
	if want := `false 1 "hello world\n"|true 1 "\n"|false 0 "no stamp\n"|false 0 ""`; err != nil || strings.Join(got, "|") != want {
		t.Errorf("got %s, %v; want %s", strings.Join(got, "|"), err, want)
	}
}

func TestReadFramesRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"cut in the head": "\x01\x00\x00",
		"cut in the text": frame(1, "hello")[:10],
		"a wild length":   "\x01\x00\x00\x00\xff\xff\xff\xff",
		"no stream":       "HTTP/1.1 400 Bad Request\r\n",
	} {
		if err := readFrames(strings.NewReader(in), func(Entry) error { return nil }); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Frames that were written are read back, however the text looks.
func FuzzReadFrames(f *testing.F) {
	f.Add([]byte("a\nb"), false)
	f.Add([]byte("2026-11-22T09:26:23Z 2026"), true)
	f.Fuzz(func(t *testing.T, text []byte, stderr bool) {
		stream := byte(1)
		if stderr {
			stream = 2
		}
		n := 0
		in := frame(stream, "2026-11-22T09:26:23.5Z "+string(text))
		err := readFrames(strings.NewReader(in+in), func(e Entry) error {
			if n++; !bytes.Equal(e.Text, text) || e.Stderr != stderr || e.Time.IsZero() {
				t.Errorf("got %q %v %v", e.Text, e.Stderr, e.Time)
			}
			return nil
		})
		if len(text) < maxFrame-100 && (err != nil || n != 2) {
			t.Errorf("got %d entries, %v", n, err)
		}
		_ = readFrames(bytes.NewReader(text), func(Entry) error { return nil }) // must not panic
	})
}
