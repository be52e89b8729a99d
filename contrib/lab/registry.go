package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"gearmesh.dev/internal/hostexec"
)

const (
	registryPort = 5000
	registryTime = 20 * time.Second // to begin to listen
)

// registryConfig is docker-registry's configuration, see registry(1).
func registryConfig(dir string, addr netip.AddrPort) string {
	return fmt.Sprintf(`# Written by gear lab, do not edit.
version: 0.1
log: {level: warn}
storage:
  filesystem: {rootdirectory: %q}
  delete: {enabled: true}
http: {addr: %q}
`, filepath.Join(dir, "blobs"), addr)
}

// runRegistry is the shell that becomes the registry; it leaves a pid file in
// the form readProcess wants.
const runRegistry = `
read -r line </proc/self/stat
read -r boot </proc/sys/kernel/random/boot_id
set -- $line
echo "$1 ${22} $boot" >"$LAB_DIR/pid.tmp"
mv "$LAB_DIR/pid.tmp" "$LAB_DIR/pid"
exec docker-registry serve "$LAB_DIR/config.yml"
`

// ensureRegistry starts the lab's registry, Debian's docker-registry, unless it
// runs. It lives in the switch's namespace: a registry of the machine's own on
// port 5000 does not disturb it, and it goes when the switch goes.
func (l *Lab) ensureRegistry(ctx context.Context, s state) error {
	dir, start := filepath.Join(l.dir(), "registry"), time.Now()
	if p, err := readProcess(filepath.Join(dir, "pid")); err == nil && p.alive() {
		return nil
	}
	addr := registryAddr(s.Subnet)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("starting the registry: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.yml"), []byte(registryConfig(dir, addr)), 0o644); err != nil {
		return fmt.Errorf("starting the registry: %w", err)
	}
	_, err := hostexec.Run(ctx, hostexec.Cmd{
		Argv: []string{"sh", "-c", `exec setsid -f "$@" </dev/null >"$LAB_DIR/log" 2>&1`, "sh",
			"sh", "-c", runRegistry},
		NetNS: filepath.Join(netnsDir, l.switchNS()),
		Env:   []string{"LAB_DIR=" + dir},
	})
	if err != nil {
		return fmt.Errorf("starting the registry: %w", err)
	}
	if err := awaitPort(ctx, addr); err != nil {
		text, _ := os.ReadFile(filepath.Join(dir, "log"))
		return fmt.Errorf("starting the registry: %w\n%s", err, text)
	}
	l.say("", "registry at "+addr.String(), start)
	return nil
}

// awaitPort waits until something accepts connections at addr.
func awaitPort(ctx context.Context, addr netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, registryTime)
	defer cancel()
	for {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", addr.String())
		if err == nil {
			return conn.Close()
		}
		if stop := pause(ctx, 20*time.Millisecond); stop != nil {
			return errors.Join(stop, err)
		}
	}
}
