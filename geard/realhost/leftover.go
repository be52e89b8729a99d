package realhost

import (
	"context"
	"errors"
	"fmt"
	"os"

	"gearmesh.dev/api"
	"gearmesh.dev/unitgen"
)

// clearNetwork removes the network of a stopped pod when its unit did not: a net-down that is killed leaves the
// namespace, and systemd runs it once for each stop. Only the unit may unmount (the agent's system
// calls are fewer), so it is started and stopped once more.
func (h *Host) clearNetwork(ctx context.Context, p api.Pod) error {
	unit := unitgen.NetUnit(p.Metadata.Project, p.Metadata.Name)
	for range 3 {
		if _, err := os.Lstat(h.dirs.Namespace(p.Metadata.UID)); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		h.log.Warn("the network of a stopped pod is still there; it is made and removed once more", "pod", p.Metadata.Name, "uid", p.Metadata.UID)
		// A start that does not succeed ends in the same net-down.
		if err := errors.Join(h.systemd.Start(ctx, unit), h.systemd.Stop(ctx, unit)); ctx.Err() != nil {
			return err
		}
	}
	return fmt.Errorf("the namespace of pod %q is still there after its network was stopped; journalctl -u %q tells more", p.Metadata.Name, unit)
}
