package geard_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/api/frame"
	"gearmesh.dev/client/session"
	"gearmesh.dev/geard"
)

// inside is a fake of a host's containers: the programs cat, size, wait, both and fail; a TCP port; and files.
type inside struct {
	port  uint16
	left  chan struct{} // wait has been left alone
	files map[string]string
}

func (i *inside) Exec(ctx context.Context, pod api.Pod, container api.Name, c geard.Command) (int, error) {
	switch c.Command[0] {
	case "cat":
		if c.Stdin == nil {
			return 0, nil
		}
		_, err := io.Copy(c.Stdout, c.Stdin)
		return 7, err
	case "both":
		fmt.Fprintf(c.Stdout, "%s/%s", pod.Metadata.Name, container)
		fmt.Fprint(c.Stderr, "to stderr")
		return 0, nil
	case "size":
		s := <-c.Resize
		fmt.Fprintf(c.Stdout, "%s %d %d then %d %d", c.Term, c.Columns, c.Rows, s.Columns, s.Rows)
		return 0, nil
	case "wait":
		<-ctx.Done()
		close(i.left)
		return 0, ctx.Err()
	}
	return 0, errors.New("it does not run")
}

func (i *inside) Dial(context.Context, api.Pod, uint16) (net.Conn, error) {
	if i.port == 0 {
		return nil, errors.New("connection refused")
	}
	return net.Dial("tcp", fmt.Sprint("127.0.0.1:", i.port))
}

// served gives the address of an agent's API that takes everybody for role.
func (r *rig) served(role geard.Role) string {
	s := httptest.NewServer(r.agent.Handler(func(*http.Request) geard.Role { return role }))
	r.t.Cleanup(s.Close)
	return s.URL
}

// reached is a rig with a pod, and the address of its agent's API.
func reached(t *testing.T, i *inside) string {
	r := newRig(t)
	r.stop()
	r.inside = i
	r.start()
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA)}}
	r.until("the pod to be ready", func() bool { return r.status(uidA).Ready })
	return r.served(geard.RoleMaster)
}

func askFor(t *testing.T, url, what string, first any) *session.Conn {
	t.Helper()
	s, err := session.Dial(t.Context(), http.DefaultClient, url+"/v1/pods/"+string(uidA)+"/"+what, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.SendJSON(first); err != nil {
		t.Fatal(err)
	}
	return s
}

// hear gives what a session says to its end.
func hear(s *session.Conn) (out, errs string, code int, err error) {
	var stdout, stderr strings.Builder
	for {
		f, err := s.Next()
		switch {
		case err != nil:
			return stdout.String(), stderr.String(), -1, err
		case f.Type == frame.Exit:
			return stdout.String(), stderr.String(), f.Code(), nil
		case f.Type == frame.Data:
			stdout.Write(f.Payload)
		case f.Type == frame.Stderr:
			stderr.Write(f.Payload)
		}
	}
}

func TestExec(t *testing.T) {
	i := &inside{left: make(chan struct{})}
	url := reached(t, i)

	s := askFor(t, url, "exec", api.ExecRequest{Command: []string{"cat"}, Stdin: true})
	sent := bytes.Repeat([]byte{0, 1, 0xff, '\n'}, 200_000)
	go func() {
		_, _ = s.Writer(frame.Data).Write(sent)
		_ = s.Send(frame.End, nil)
	}()
	if out, _, code, err := hear(s); err != nil || code != 7 || out != string(sent) {
		t.Errorf("cat: %d bytes, exit %d, %v", len(out), code, err)
	}

	s = askFor(t, url, "exec", api.ExecRequest{Command: []string{"cat"}})
	_ = s.Send(frame.Data, []byte("nobody asked for it"))
	if out, _, code, err := hear(s); err != nil || code != 0 || out != "" {
		t.Errorf("cat without stdin: %q, exit %d, %v", out, code, err)
	}

	s = askFor(t, url, "exec", api.ExecRequest{Command: []string{"both"}})
	if out, errs, _, err := hear(s); err != nil || out != "web-aaaaa/main" || errs != "to stderr" {
		t.Errorf("both: %q and %q, %v", out, errs, err)
	}

	s = askFor(t, url, "exec", api.ExecRequest{Command: []string{"size"}, TTY: true, Term: "xterm", Columns: 80, Rows: 24})
	_ = s.Send(frame.Resize, frame.Size{Columns: 132, Rows: 43}.Payload())
	if out, _, _, err := hear(s); err != nil || out != "xterm 80 24 then 132 43" {
		t.Errorf("size: %q, %v", out, err)
	}

	s = askFor(t, url, "exec", api.ExecRequest{Command: []string{"wait"}})
	s.Close()
	<-i.left
}

func TestExecRefused(t *testing.T) {
	url := reached(t, &inside{})
	for name, tc := range map[string]struct {
		ask  any
		want string
	}{
		"no command":       {api.ExecRequest{}, "a program is needed"},
		"zero byte":        {api.ExecRequest{Command: []string{"a\x00b"}}, "zero byte"},
		"other container":  {api.ExecRequest{Command: []string{"cat"}, Container: "proxy"}, `no container "proxy"; it has ["main"]`},
		"does not run":     {api.ExecRequest{Command: []string{"fail"}}, "it does not run"},
		"terminal":         {api.ExecRequest{Command: []string{"cat"}, Term: "x\ny"}, "no name of a terminal"},
		"a field too many": {map[string]any{"command": []string{"cat"}, "privileged": true}, "privileged"},
	} {
		if _, _, _, err := hear(askFor(t, url, "exec", tc.ask)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// Only the master reaches into pods, and only those there are.
func TestSessionsAreTheMasters(t *testing.T) {
	r := newRig(t)
	for role, want := range map[geard.Role]int{geard.RoleNone: http.StatusForbidden, geard.RoleHost: http.StatusForbidden, geard.RoleMaster: http.StatusNotFound} {
		url := r.served(role)
		for _, what := range []string{"exec", "forward", "files"} {
			resp, err := http.Get(url + "/v1/pods/" + string(uidA) + "/" + what)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s as %d: %d, want %d", what, role, resp.StatusCode, want)
			}
		}
	}
}

func TestForward(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			asked, _ := io.ReadAll(conn)
			_, _ = conn.Write(append([]byte("answer to "), asked...))
			conn.Close()
		}
	}()
	i := &inside{port: uint16(l.Addr().(*net.TCPAddr).Port)}
	url := reached(t, i)
	s := askFor(t, url, "forward", api.ForwardRequest{Port: 6379})
	if f, err := s.Next(); err != nil || f.Type != frame.Start {
		t.Fatalf("got %v, %v", f, err)
	}
	_ = s.Send(frame.Data, []byte("PING"))
	_ = s.Send(frame.End, nil)
	if out, _, _, err := hear(s); err != nil || out != "answer to PING" {
		t.Errorf("got %q, %v", out, err)
	}
	i.port = 0
	if _, _, _, err := hear(askFor(t, url, "forward", api.ForwardRequest{Port: 6379})); err == nil || !strings.Contains(err.Error(), "nobody answers on port 6379 of pod web-aaaaa: connection refused") {
		t.Errorf("got %v", err)
	}
}

// tarFiles is a container's files: /data is a directory, and reading gives kept.
type tarFiles struct{ i *inside }

func (i *inside) Files(context.Context, api.Pod, api.Name) (geard.Files, error) {
	return tarFiles{i}, nil
}

func (f tarFiles) Stat(_ context.Context, name string) (api.CopyAnswer, error) {
	_, file := f.i.files[name]
	return api.CopyAnswer{Name: path.Base(name), Exists: file || name == "/data", Directory: name == "/data"}, nil
}

func (f tarFiles) Read(_ context.Context, name string) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(f.i.files[name])), nil
}

func (f tarFiles) Write(_ context.Context, dir string, from io.Reader) error {
	if dir == "/full" {
		return errors.New("no space left on device")
	}
	text, err := io.ReadAll(from)
	f.i.files[dir] = string(text)
	return err
}

func TestFiles(t *testing.T) {
	i := &inside{files: map[string]string{"/data/f": "an archive"}}
	url := reached(t, i)
	open := func(ask api.CopyRequest) (*session.Conn, api.CopyAnswer, error) {
		s := askFor(t, url, "files", ask)
		var is api.CopyAnswer
		return s, is, s.NextStart(&is)
	}
	s, _, err := open(api.CopyRequest{Path: "/data/../data/f"})
	if err != nil {
		t.Fatal(err)
	}
	if out, _, _, err := hear(s); err != nil || out != "an archive" {
		t.Errorf("read %q, %v", out, err)
	}
	if _, _, err = open(api.CopyRequest{Path: "/nosuch"}); err == nil || !strings.Contains(err.Error(), `container main of pod web-aaaaa has no "/nosuch"`) {
		t.Errorf("got %v", err)
	}
	if _, _, err = open(api.CopyRequest{Path: "data"}); err == nil || !strings.Contains(err.Error(), "no absolute path") {
		t.Errorf("got %v", err)
	}

	var sent bytes.Buffer
	w := tar.NewWriter(&sent)
	for _, h := range []tar.Header{{Name: "new", Typeflag: tar.TypeReg, Mode: 0o4755}, {Name: "sda", Typeflag: tar.TypeBlock}} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	write := func(to string) error {
		s, _, err := open(api.CopyRequest{Path: to, Write: true})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = s.Writer(frame.Data).Write(sent.Bytes())
		_ = s.Send(frame.End, nil)
		_, _, _, err = hear(s)
		return err
	}
	if err := write("/data"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(strings.NewReader(i.files["/data"])); ; {
		h, err := r.Next()
		if err != nil {
			break
		}
		got = append(got, fmt.Sprintf("%s %o", h.Name, h.Mode))
	}
	if fmt.Sprint(got) != "[new 755]" {
		t.Errorf("the container gets %q", got)
	}
	if err := write("/full/x"); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("got %v", err)
	}
}
