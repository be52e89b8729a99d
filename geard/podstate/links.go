package podstate

import (
	"fmt"
	"os"
	"path/filepath"

	"gearmesh.dev/api"
)

// Where containers find the socket that tells of their pod's links; package unitgen has the same path.
const (
	LinksMount    = "/run/gearmesh"     // the directory, so that a new socket in it is seen
	LinksVariable = "GEAR_LINKS_SOCKET" // the variable that has the socket's path
	linksSocket   = "links.sock"
)

// Links gives the directory of the socket that tells of a pod's links.
func (d Dirs) Links(uid api.UID) string { return filepath.Join(d.RunPod(uid), "links") }

// LinksSocket gives the socket that tells of a pod's links. It is there while an agent is.
func (d Dirs) LinksSocket(uid api.UID) string { return filepath.Join(d.Links(uid), linksSocket) }

// MakeLinks makes the directory of the socket, which containers can be given whether an agent runs or not. Nobody but root may change it, and
// any user may pass.
func (d Dirs) MakeLinks(uid api.UID) error {
	err := os.MkdirAll(d.Links(uid), 0o755)
	if err == nil {
		err = os.Chmod(d.Links(uid), 0o755) // whatever the umask: that of native units lets nobody else in
	}
	if err != nil {
		return fmt.Errorf("making the directory of the links' socket: %w", err)
	}
	return nil
}
