package runner

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/geard/volumes"
)

// ensureVolumes makes the directories of a container's volumes. A new one belongs to the container's
// user when that is given by number: with all capabilities dropped, even root writes only what is its
// own. One that is there already is left as it is, with its data.
func ensureVolumes(dirs podstate.Dirs, pod api.Pod, c api.Container) error {
	for _, m := range c.Mounts {
		dir, made, err := volumes.Ensure(dirs, pod, m.Volume)
		if err != nil {
			return err
		}
		if uid, gid, ok := numericUser(c.User); ok && made {
			if err := os.Chown(dir, uid, gid); err != nil {
				return fmt.Errorf("making volume %q: %w", m.Volume, err)
			}
		}
		if err := volumes.Bound(dir, sizeOf(pod, m.Volume)); err != nil {
			return fmt.Errorf("making volume %q: %w", m.Volume, err)
		}
	}
	return nil
}

// sizeOf gives the size of a volume that its file system has to hold it to.
func sizeOf(pod api.Pod, name api.Name) api.Bytes {
	for _, v := range pod.Spec.Template.Volumes {
		if v.Name == name && !v.Tmpfs {
			return v.Size
		}
	}
	return 0
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
