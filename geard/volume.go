package geard

import (
	"errors"
	"strings"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/volumes"
)

// deleteVolumes takes a pod's volumes along with the last pod that has them of a service that is being deleted, where the service
// says so. Only the word of the pod's own deletion counts: what a directory lacks deletes no data.
func (a *Agent) deleteVolumes(pod api.Pod) error {
	if pod.Spec.Ending != api.ReasonServiceDeleted {
		return nil
	}
	disk, err := a.loadPods()
	if err != nil {
		return err
	}
	for uid, h := range disk {
		if h.pod != nil && uid != pod.Metadata.UID && volumes.Shared(*h.pod, pod) {
			return nil // the last one does it
		}
	}
	return volumes.Delete(a.cfg.Dirs, pod)
}

// sayUnbounded makes it a condition of the host that nothing holds volumes to their sizes.
func (a *Agent) sayUnbounded(pods []api.Pod) {
	var err error
	if list := volumes.Unbounded(a.cfg.Dirs, pods); len(list) > 0 {
		err = errors.New(strings.Join(list, "; "))
	}
	a.condition(reasonVolumes, err)
}
