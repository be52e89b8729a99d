package install

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"gearmesh.dev/internal/atomicfile"
)

// The OCI runtime that puts containers into their pod's network, as dockerd knows it.
const (
	runtimeName = "gear"
	runtimePath = "/usr/local/bin/gear-oci"
)

// dockerInfo is what we read of the engine's GET /info.
type dockerInfo struct {
	ServerVersion      string
	CgroupDriver       string
	LiveRestoreEnabled bool
	Runtimes           map[string]struct {
		Path string `json:"path"`
	}
	Swarm struct{ LocalNodeState string }
}

// ready tells whether dockerd has the settings that pods need.
func (d dockerInfo) ready() bool {
	return d.LiveRestoreEnabled && d.Runtimes[runtimeName].Path == runtimePath
}

// dockerInfo asks dockerd on its socket. One GET is not worth a client library.
func (i *installer) dockerInfo(ctx context.Context) (dockerInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", i.path("/run/docker.sock"))
	}}}
	defer client.CloseIdleConnections()
	var info dockerInfo
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/info", nil)
	if err != nil {
		return info, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return info, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return info, fmt.Errorf("GET /info: %s", resp.Status)
	}
	return info, json.NewDecoder(io.LimitReader(resp.Body, 4<<20)).Decode(&info)
}

// docker merges our settings into dockerd's and makes it read them. SIGHUP is enough for both, and
// containers run on; dockerd is never restarted.
func (i *installer) docker(ctx context.Context) (string, error) {
	path := i.path("/etc/docker/daemon.json")
	changed, err := mergeDocker(path)
	if err != nil {
		return "", err
	}
	info, err := i.dockerInfo(ctx)
	if err != nil {
		return "", fmt.Errorf("asking dockerd: %w", err)
	}
	if info.ready() && !changed {
		return "", nil
	}
	if _, err := i.Runner.Run(ctx, "systemctl", "reload", "docker.service"); err != nil {
		return "", err
	}
	if err := i.await(ctx, "dockerd to take its new settings", "journalctl -u docker -n 20", i.dockerReady); err != nil {
		return "", err
	}
	return "set live-restore and the runtime gear in /etc/docker/daemon.json, and reloaded dockerd", nil
}

func (i *installer) dockerReady(ctx context.Context) error {
	info, err := i.dockerInfo(ctx)
	if err == nil && !info.ready() {
		err = errors.New("live-restore or the runtime gear is not in force; does a flag in dockerd's unit contradict /etc/docker/daemon.json?")
	}
	return err
}

// mergeDocker puts our settings into a daemon.json and keeps all others.
func mergeDocker(path string) (changed bool, err error) {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("reading dockerd's settings: %w", err)
	}
	merged, err := mergedDocker(old)
	if err != nil {
		return false, fmt.Errorf("dockerd's settings %q: %w; mend the file first", path, err)
	}
	if merged == nil {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, fmt.Errorf("writing dockerd's settings: %w", err)
	}
	return true, atomicfile.Write(path, merged, modeOf(path, 0o644))
}

// mergedDocker gives the new text of a daemon.json, or nil when the old has our settings.
func mergedDocker(old []byte) ([]byte, error) {
	settings := map[string]any{}
	if len(bytes.TrimSpace(old)) > 0 {
		dec := json.NewDecoder(bytes.NewReader(old))
		dec.UseNumber() // numbers stay as they are written
		if err := dec.Decode(&settings); err != nil {
			return nil, err
		}
	}
	runtimes, ok := settings["runtimes"].(map[string]any)
	if !ok && settings["runtimes"] != nil {
		return nil, errors.New(`"runtimes" is no object`)
	}
	gear, _ := runtimes[runtimeName].(map[string]any)
	if settings["live-restore"] == true && gear["path"] == runtimePath {
		return nil, nil
	}
	if runtimes == nil {
		runtimes = map[string]any{}
	}
	runtimes[runtimeName] = map[string]any{"path": runtimePath}
	settings["runtimes"], settings["live-restore"] = runtimes, true
	text, err := json.MarshalIndent(settings, "", "  ")
	return append(text, '\n'), err
}

func modeOf(path string, otherwise os.FileMode) os.FileMode {
	if info, err := os.Stat(path); err == nil {
		return info.Mode().Perm()
	}
	return otherwise
}
