package engine

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

func TestRegistryOf(t *testing.T) {
	for ref, want := range map[string]string{
		"redis": "docker.io", "redis:7": "docker.io", "library/redis": "docker.io", "localhost/x": "localhost", "localhost:5000/x:1": "localhost:5000",
		"registry.example.com/shop/web@sha256:00": "registry.example.com", "10.0.0.1:5000/web": "10.0.0.1:5000", "Host/x": "Host",
	} {
		if got := RegistryOf(ref); got != want {
			t.Errorf("%s is of %s, want %s", ref, got, want)
		}
	}
}

// An engine gets the login in the header it reads, and nothing else does.
func TestPullAs(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var auth, url string
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/images/create") {
			auth, url = r.Header.Get("X-Registry-Auth"), r.URL.String()
		}
		w.Header().Set("Api-Version", "1.41")
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	defer func() { _ = s.Close(); <-done }()
	e, err := New(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	login := Login{"ann", "canary"}
	if err := e.PullAs(t.Context(), "r.example.com/web:1", login, nil); err != nil {
		t.Fatal(err)
	}
	text, err := base64.URLEncoding.DecodeString(auth)
	if err != nil || !strings.Contains(string(text), `"password":"canary"`) || !strings.Contains(string(text), "r.example.com") || strings.Contains(url, "canary") {
		t.Errorf("the header is %s, the address %s, %v", text, url, err)
	}
	if out := fmt.Sprintf("%v %+v %#v", login, login, login); strings.Contains(out, "canary") {
		t.Errorf("a login prints as %s", out)
	}
	if err := e.Pull(t.Context(), "r.example.com/web:1", nil); err != nil || auth != "" {
		t.Errorf("nobody sends %q, %v", auth, err)
	}
}
