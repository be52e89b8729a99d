package runner

import (
	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/geard/secrets"
)

// layIn writes the secrets of a container that is about to be made. The host's key and its sealed copy
// are on disk: neither a master nor an agent is needed.
func layIn(dirs podstate.Dirs, pod api.Pod, c api.Container) error {
	if !secrets.Uses(c) {
		return nil
	}
	s, err := secrets.Open(dirs)
	if err != nil {
		return err
	}
	return s.Lay(pod, c)
}
