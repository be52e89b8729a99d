package main

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podnet"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/internal/atomicfile"
	"gearmesh.dev/linker"
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
		"link of no uid": {"link-wait x/1", 2, "want UID/N"},
		"link zero":      {"link-wait k3v7qxw2m5n4a6bz/0", 2, "want UID/N"},
		"no such links":  {"link-wait k3v7qxw2m5n4a6bz/1", 1, "no such file or directory"},
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

// A host that powers on without an agent has its rules although the file of them is damaged.
func TestHostRulesAreFoundAgain(t *testing.T) {
	dir := t.TempDir()
	dirs := podstate.Dirs{State: dir, Run: dir}
	var said []string
	say := func(text string) { said = append(said, text) }
	if ipv6, err := layHost(t.Context(), dirs, say); err != nil || ipv6 {
		t.Errorf("a host without an agent: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "agent"), 0o700); err != nil {
		t.Fatal(err)
	}
	spoil := func(text string) {
		if err := os.WriteFile(dirs.HostRules(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	spoil("{")
	if _, err := layHost(t.Context(), dirs, say); !podstate.Damaged(err) {
		t.Errorf("with no pod to go by: %v", err)
	}

	p := api.Pod{}
	p.Metadata = api.Metadata{Name: "web-1", Project: "shop", UID: "aaaaaaaaaaaaaaaa"}
	addr := netip.MustParseAddr
	place := podstate.Net{Address: addr("10.127.3.4"), HostAddress: addr("192.0.2.1"), Ports: []api.HostPort{{Name: "http", Protocol: api.TCP, Port: 80, HostPort: 20001}}}
	if err := dirs.Save(p, place, nil); err != nil {
		t.Fatal(err)
	}
	members := []netip.Addr{addr("192.0.2.1")}
	for _, text := range []string{"", "{}", "null", "[]", `{"Address": "192.0.2.1"`, "\x00\x00"} {
		spoil(text)
		said = nil
		got, err := hostConfig(dirs, say)
		if want := podnet.HostConfig(linker.HostConfig{Address: place.HostAddress, Members: members}, []podstate.Net{place}, nil, map[netip.Addr]*linker.Egress{place.Address: nil}); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: the rules are of %+v, %v; want %+v", text, got, err, want)
		}
		if len(said) != 1 || !strings.Contains(said[0], "cannot be read") {
			t.Errorf("%q: said %q", text, said)
		}
	}
	known := api.Desired{Directory: api.Directory{Hosts: []api.HostEntry{{Name: "h1", Address: addr("192.0.2.1"), HostIPv6: api.HostIPv6{IPv6: addr("2001:db8::1"), AlsoIPv6: []netip.Addr{addr("2001:db8::1:1")}}}, {Name: "h2", Address: addr("192.0.2.2"), HostIPv6: api.HostIPv6{IPv6: addr("2001:db8::2"), AlsoIPv6: []netip.Addr{addr("2001:db8::2:1")}}}},
		Endpoints: []api.HostEndpoints{{Host: "h2", Endpoints: []api.Endpoint{{Protocol: api.TCP, Address: netip.MustParseAddrPort("192.0.2.2:20009"), Public: true}}}}}}
	if err := atomicfile.WriteSummed(dirs.Desired(), known, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := hostConfig(dirs, say); err != nil || len(got.Members) != 6 || len(got.Public) != 2 || got.Address6 != addr("2001:db8::1") {
		t.Errorf("with what the master last said: %+v, %v", got, err)
	}
}
