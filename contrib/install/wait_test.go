package install_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/install"
	"gearmesh.dev/internal/pki"
)

// waitingHost gives a master whose joins wait as pend says, and a host with a token for it.
func waitingHost(t *testing.T, pend func(int) *api.Error) (master, h *fakeHost, o install.JoinOptions) {
	t.Helper()
	master, h = newHost(t), newHost(t)
	up(t, master)
	id, err := install.LoadIdentity(filepath.Join(master.root, install.AgentDir))
	h.must(err)
	master.token, master.pend = pki.NewToken(id.CA), pend
	o = install.JoinOptions{Options: h.options(), Master: "127.0.0.1", Token: master.token.String()}
	o.MasterPort, o.Poll = master.port, time.Millisecond
	return master, h, o
}

// TestWaitForApproval ends a join in the middle of its wait, and lets a second one meet a master that is down for a moment.
func TestWaitForApproval(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var said []string
	master, h, o := waitingHost(t, func(n int) *api.Error {
		switch n {
		case 3:
			cancel()
		case 5:
			return api.Errorf(api.CodeUnavailable, "a moment")
		case 7:
			return nil
		}
		return &api.Error{}
	})
	o.Progress = func(s install.Step) { said = append(said, s.String()) }
	if _, err := install.Join(ctx, o); err == nil || !strings.Contains(err.Error(), "run it again") {
		t.Fatalf("cut off: %v", err)
	}
	file := filepath.Join(h.root, install.AgentDir, "joining.json")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o400 {
		t.Errorf("the key that waits: %v, %v", info, err)
	}
	text := strings.Join(said, "\n")
	if !strings.Contains(text, "gear host approve h1") || !strings.Contains(text, master.asked[0]) || strings.Count(text, "waits for approval") != 1 {
		t.Errorf("it said:\n%s", text)
	}
	if _, err := install.Join(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if keys := slices.Compact(slices.Clone(master.asked)); len(keys) != 1 || len(master.joined) != 2 { // the master's own host is one
		t.Errorf("%d keys asked, %d hosts joined", len(keys), len(master.joined))
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the key is left: %v", err)
	}
}

func TestRejected(t *testing.T) {
	_, h, o := waitingHost(t, func(n int) *api.Error {
		if n == 2 {
			return api.Errorf(api.CodeForbidden, "an administrator has rejected this host")
		}
		return &api.Error{}
	})
	if _, err := install.Join(t.Context(), o); err == nil || !strings.Contains(err.Error(), "has rejected") {
		t.Errorf("rejected: %v", err)
	}
	for _, name := range []string{"joining.json", "identity.json"} {
		if _, err := os.Stat(filepath.Join(h.root, install.AgentDir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a rejected host has %s: %v", name, err)
		}
	}
}
