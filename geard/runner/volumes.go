package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
)

// ensureVolumes makes the directories of a container's volumes. A new one belongs to the container's
// user when that is given by number: with all capabilities dropped, even root writes only what is its
// own. One that is there already is left as it is, with its data.
func ensureVolumes(dirs podstate.Dirs, pod api.Pod, c api.Container) error {
	for _, m := range c.Mounts {
		dir := dirs.Volume(pod.Metadata.Project, pod.Spec.Service, m.Volume)
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return fmt.Errorf("making volume %q: %w", m.Volume, err)
		}
		err := os.Mkdir(dir, 0o755)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if uid, gid, ok := numericUser(c.User); ok && err == nil {
			err = os.Chown(dir, uid, gid)
		}
		if err != nil {
			return fmt.Errorf("making volume %q: %w", m.Volume, err)
		}
	}
	return nil
}

// numericUser reads "1000" and "1000:1000". A group by name, or none, is the group of that number.
func numericUser(user string) (uid, gid int, ok bool) {
	u, g, _ := strings.Cut(user, ":")
	uid, err := strconv.Atoi(u)
	if err != nil || uid < 0 {
		return 0, 0, false
	}
	if gid, err = strconv.Atoi(g); err != nil || gid < 0 {
		gid = uid
	}
	return uid, gid, true
}
