package install_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/install"
	"gearmesh.dev/internal/pki"
	"gearmesh.dev/internal/seal"
)

// TestAKitMakesAMaster: what one master hands over makes another directory the same, with the same modes.
func TestAKitMakesAMaster(t *testing.T) {
	from, to := masterDir(t), filepath.Join(t.TempDir(), "master")
	kit, err := install.ReadKit(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := install.WriteKit(to, kit); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"ca.crt": 0o444, "ca.key": 0o400, "secret.key": 0o400, "people.json": 0o400} {
		a, _ := os.ReadFile(filepath.Join(from, name))
		b, err := os.ReadFile(filepath.Join(to, name))
		if err != nil || string(a) != string(b) {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		if info, err := os.Stat(filepath.Join(to, name)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if info, err := os.Stat(to); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, %v", info, err)
	}
}

func TestADamagedKitMakesNone(t *testing.T) {
	kit, err := install.ReadKit(masterDir(t))
	if err != nil {
		t.Fatal(err)
	}
	other, err := install.ReadKit(masterDir(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, harm := range map[string]func(*api.MasterKit){
		"no CA": func(k *api.MasterKit) { k.CA = "" }, "another key": func(k *api.MasterKit) { k.CAKey = other.CAKey },
		"no sealing key": func(k *api.MasterKit) { k.SealingKey = "" }, "no people": func(k *api.MasterKit) { k.People = "" },
	} {
		bad, dir := kit, filepath.Join(t.TempDir(), "master")
		harm(&bad)
		if err := install.WriteKit(dir, bad); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: something was written", name)
		}
	}
}

// masterDir makes the files of a master, as gear up and its first start do.
func masterDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	ca, err := pki.NewCA(time.Now())
	if err == nil {
		err = ca.Save(dir)
	}
	if err == nil {
		_, err = seal.EnsureKey(filepath.Join(dir, install.SealingKeyFile))
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "people.json"), []byte(`[{"name":"admin","tokenHash":"x"}]`), 0o400)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
