package oci

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRecordText(t *testing.T) {
	for _, r := range []Record{
		{Namespace: "/run/netns/gear-x"},
		{Namespace: "/run/netns/gear-x", Sysctls: map[string]string{"net.core.somaxconn": "9"}, Env: "/run/e"},
	} {
		got, err := ParseRecord(r.Text())
		if diff := cmp.Diff(r, got); err != nil || diff != "" {
			t.Error(err, diff)
		}
	}
	if _, err := ParseRecord([]byte("/run/netns/x\n{")); err == nil {
		t.Error("half a record was read")
	}
}

func TestRecordApply(t *testing.T) {
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte("B=secret=1\n2\x00C=\x00"), 0o400); err != nil {
		t.Fatal(err)
	}
	in := `{"ociVersion":"1.0","process":{"env":["A=1","B=old"],"cwd":"/"},"linux":{"sysctl":{"kernel.msgmax":"1"}}}`
	out, err := Record{Namespace: "/n", Env: file, Sysctls: map[string]string{"net.core.somaxconn": "9"}}.apply([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Process struct{ Env []string }
		Linux   struct{ Sysctl map[string]string }
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if want := []string{"A=1", "B=secret=1\n2", "C="}; !slices.Equal(got.Process.Env, want) {
		t.Errorf("the environment is %q, want %q", got.Process.Env, want)
	}
	if len(got.Linux.Sysctl) != 2 || !strings.Contains(string(out), `"cwd":"/"`) {
		t.Errorf("got %s", out)
	}
	if _, err := (Record{Namespace: "/n", Env: file + ".none"}).apply([]byte(in)); err == nil {
		t.Error("a container without its secrets was let through")
	}
}
