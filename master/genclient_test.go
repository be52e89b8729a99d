//go:build root

package master

import (
	"encoding/pem"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"gearmesh.dev/api"
)

// A client that is generated from the description works: contrib/genclient writes, lists, watches and is refused by it. It has
// the tag root since it takes a generator from the module proxy and compiles what that writes, which takes some time.
func TestGeneratedClient(t *testing.T) {
	c := startCluster(t)
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../contrib/genclient")); err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(dir, "ca.pem")
	for file, text := range map[string][]byte{
		filepath.Join(dir, "openapi.json"): c.user("", nil).must("GET", "/openapi.json", nil, http.StatusOK).body,
		ca:                                 pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.ca.Cert.Raw}),
	} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"generate", "."}, {"vet", "."}, {"run", ".", c.url, ca, c.token}} {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
	}
	c.until("what it left: api, web, and jobs no more", func() bool {
		var l api.List[api.Service]
		if err := api.Decode(c.ann().must("GET", "/v1/projects/made/services?fresh=1", nil, http.StatusOK).body, &l); err != nil {
			t.Fatal(err)
		}
		return len(l.Items) == 2 && l.Items[0].Metadata.Name == "api" && *l.Items[1].Spec.Replicas == 2
	})
}
