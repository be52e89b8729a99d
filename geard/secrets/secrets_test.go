package secrets

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
)

const canary = "canary-7hd2"

func sample(t *testing.T) (Store, api.Pod, []api.SecretValue) {
	t.Helper()
	dir := t.TempDir()
	s, err := New(podstate.Dirs{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")})
	if err != nil {
		t.Fatal(err)
	}
	p := *api.New(api.KindPod).(*api.Pod)
	p.Metadata = api.Metadata{Name: "web-aaaaa", Project: "shop", UID: "aaaaaaaaaaaaaaaa"}
	c := api.Container{Name: "main"}
	c.SecretEnv = map[string]api.SecretKey{"PASSWORD": {Secret: "db", Key: "password"}, "A": {Secret: "db", Key: "user"}}
	c.Secrets = []api.SecretMount{{Secret: "tls", Path: "/tls"}, {Secret: "db", Key: "password", Path: "/etc/password"}}
	p.Spec.Template.Containers = []api.Container{c}
	return s, p, []api.SecretValue{
		{Project: "other", Name: "db", Data: map[string][]byte{"password": []byte("theirs"), "user": nil}},
		{Project: "shop", Name: "db", Data: map[string][]byte{"password": []byte(canary), "user": []byte("ann\nbob"), "unasked": []byte("x")}},
		{Project: "shop", Name: "tls", Data: map[string][]byte{"key": []byte("k"), "cert": []byte("c")}},
	}
}

// save keeps what was sent and gives the only container.
func save(t *testing.T, s Store, p api.Pod, sent []api.SecretValue) api.Container {
	t.Helper()
	v, err := Of(p, sent)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Save(p.Metadata.UID, v); err != nil {
		t.Fatal(err)
	}
	return p.Spec.Template.Containers[0]
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return string(data)
}

func TestLayAndClear(t *testing.T) {
	s, p, sent := sample(t)
	c := save(t, s, p, sent)
	uid := p.Metadata.UID
	if box := content(t, s.sealed(uid)); strings.Contains(box, canary) {
		t.Error("the sealed copy can be read")
	}
	again, err := Open(s.Dirs) // as gear-run does
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Lay(p, c); err != nil {
		t.Fatal(err)
	}
	if got, want := content(t, EnvFile(s.Dirs, uid, c)), "A=ann\nbob\x00PASSWORD="+canary+"\x00"; got != want {
		t.Errorf("the variables are %q, want %q", got, want)
	}
	m := Mounts(s.Dirs, uid, c)
	if got := content(t, filepath.Join(m[0][0], "key")) + content(t, filepath.Join(m[0][0], "cert")) + content(t, m[1][0]); got != "kc"+canary {
		t.Errorf("the files are %q", got)
	}
	if info, err := os.Stat(m[1][0]); err != nil || info.Mode().Perm() != 0o400 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Join(s.Dirs.Run, "secrets")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := errors.Join(DropEnv(s.Dirs, uid, c), DropEnv(s.Dirs, uid, c), Clear(s.Dirs, uid, c), Clear(s.Dirs, uid, c)); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Join(s.Dirs.Run, "secrets")); err != nil || len(left) > 0 || s.Laid(uid, "main") != "" {
		t.Errorf("left: %v, %v", left, err)
	}
}

// A change reaches files that are mounted already: they stay the same files.
func TestChangeInPlace(t *testing.T) {
	s, p, sent := sample(t)
	c := save(t, s, p, sent)
	if err := s.Lay(p, c); err != nil {
		t.Fatal(err)
	}
	m := Mounts(s.Dirs, p.Metadata.UID, c)
	mounted, err := os.Open(m[1][0])
	if err != nil {
		t.Fatal(err)
	}
	defer mounted.Close()
	before := s.Laid(p.Metadata.UID, c.Name)
	sent[1].Data["password"], sent[2].Data = []byte("new"), map[string][]byte{"key": []byte("k2")}
	save(t, s, p, sent)
	if err := s.Lay(p, c); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 99)
	if n, _ := mounted.Read(got); string(got[:n]) != "new" {
		t.Errorf("the mounted file reads %q", got[:n])
	}
	if _, err := os.Stat(filepath.Join(m[0][0], "cert")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a value that is no more: %v", err)
	}
	if s.Laid(p.Metadata.UID, c.Name) == before {
		t.Error("the fingerprint is the same")
	}
}

func TestRefusals(t *testing.T) {
	s, p, sent := sample(t)
	if _, err := Of(p, sent[:1]); err == nil || !strings.Contains(err.Error(), "shop/db has not reached") {
		t.Errorf("another project's secret: %v", err)
	}
	delete(sent[1].Data, "user")
	if _, err := Of(p, sent); err == nil || !strings.Contains(err.Error(), `no value "user"`) {
		t.Errorf("a missing value: %v", err)
	}
	sent[1].Data["user"] = []byte("a\x00B=1")
	c := save(t, s, p, sent)
	if err := s.Lay(p, c); err == nil || !strings.Contains(err.Error(), "NUL") || strings.Contains(err.Error(), canary) {
		t.Errorf("a value with NUL: %v", err)
	}
	box := content(t, s.sealed(p.Metadata.UID))
	other := api.UID("bbbbbbbbbbbbbbbb")
	if err := os.MkdirAll(s.Dirs.Pod(other), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.sealed(other), []byte(box), 0o400); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Load(other); err == nil {
		t.Errorf("another pod's copy opens: %v", v)
	}
}

func TestNothingPrints(t *testing.T) {
	_, p, sent := sample(t)
	v, err := Of(p, sent)
	if err != nil {
		t.Fatal(err)
	}
	if out := fmt.Sprintf("%v %+v %#v %s %v %#v %+v", v, v, v, v, sent, sent, sent[1]); strings.Contains(out, canary) {
		t.Errorf("it prints %s", out)
	}
}
