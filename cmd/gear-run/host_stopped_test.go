//go:build host

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gearmesh.dev/api"
	systemdunits "gearmesh.dev/contrib/systemd"
)

// installStopped puts the unit on this host that every host with Gearmesh has.
func installStopped(t *testing.T) {
	t.Helper()
	files, err := systemdunits.Texts(systemdunits.Stopped)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("/etc/systemd/system", files[0].Name)
	if err := os.WriteFile(path, []byte(files[0].Text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(path) })
}

// A unit that is stopped while its gear-run is dead, and no agent is there: systemd itself sees to its container.
func TestHostStoppedWhileGearRunIsDead(t *testing.T) {
	installStopped(t)
	install(t, container("main", counter))
	// Between the kill and the next gear-run are 100 ms; a drop-in gives this test a minute.
	dropIn := filepath.Join("/run/systemd/system", mainUnit+".d", "slow.conf")
	sh(t, "mkdir -p %s && printf '[Service]\nRestartSec=60s\n' > %s && systemctl daemon-reload", filepath.Dir(dropIn), dropIn)
	t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(dropIn)) })
	for range 2 {
		sh(t, "systemctl start %s", mainUnit)
		id := state(t, "main").ID
		since := sh(t, "date +%%s")
		sh(t, "kill -9 $(systemctl show -P MainPID %s)", mainUnit)
		until(t, "the death to be noticed", func() bool { return sh(t, "systemctl show -P SubState %s", mainUnit) == "auto-restart" })
		if got := sh(t, "docker inspect -f '{{.State.Running}}' %s", id); got != "true" {
			t.Fatalf("the container ended with its gear-run: running is %s", got)
		}
		sh(t, "systemctl stop %s", mainUnit)
		until(t, "the container to be stopped", func() bool {
			left, _ := exec.Command("docker", "ps", "-aq", "--filter", "label=dev.gearmesh.uid="+string(hostUID)).Output()
			return len(left) == 0 && state(t, "main").State == api.RunStopped
		})
		until(t, "its last words", func() bool {
			out, _ := exec.Command("journalctl", "-q", "-o", "cat", "GEAR_POD=web-7f3k2", "GEAR_CONTAINER=main", "--since=@"+since).Output()
			return strings.Contains(string(out), "bye\n")
		})
	}
	// A stop in good order, and a restart, leave it nothing to do.
	sh(t, "systemctl start %s", mainUnit)
	before := state(t, "main").ID
	sh(t, "systemctl restart %s", mainUnit)
	if s := state(t, "main"); s.State != api.RunRunning || s.ID == before {
		t.Errorf("restarted, the state is %+v", s)
	}
	until(t, "what systemd runs at the end of a unit to have ended", func() bool {
		return sh(t, "systemctl list-units --no-legend 'gearrun-stopped@*'; systemctl list-jobs --no-legend 'gearrun-stopped@*'") == ""
	})
	if s := state(t, "main"); s.State != api.RunRunning || !isUp(mainUnit) {
		t.Errorf("the container was stopped after its restart: %+v", s)
	}
}
