package geard_test

import (
	"os"
	"path/filepath"
	"testing"

	"gearmesh.dev/api"
)

// TestDamagedFilesAreMadeAnew damages each file of a pod in turn: it runs on where it is, and the file is right again.
func TestDamagedFilesAreMadeAnew(t *testing.T) {
	for _, name := range []string{"pod.json", "net.json"} {
		for what, text := range map[string]string{"cut short": `{"kind": "P`, "empty": "", "zeros": "\x00\x00\x00\x00", "another type": `["x"]`} {
			t.Run(name+" "+what, func(t *testing.T) {
				r := newRig(t)
				r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA)}}
				r.untilHost("web-aaaaa up started=1\n")
				before, err := r.dirs.LoadNet(uidA)
				if err != nil {
					t.Fatal(err)
				}
				r.stop()
				if err := os.WriteFile(filepath.Join(r.dirs.Pod(uidA), name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				r.start()
				r.until("the pod to be ready", func() bool { return r.status(uidA).Ready })
				r.untilHost("web-aaaaa up started=1\n")
				r.until("the file to be made anew", func() bool { _, err := r.dirs.LoadPod(uidA); return err == nil })
				if after, err := r.dirs.LoadNet(uidA); err != nil || after.Address != before.Address || after.Ports[0] != before.Ports[0] {
					t.Errorf("the pod's place was %+v and is %+v, %v", before, after, err)
				}
			})
		}
	}
}
