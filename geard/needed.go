package geard

import (
	"fmt"
	"slices"
)

// Images gives the references of all images that pods on disk or desired pods name. It fails while a pod on disk cannot
// be read: nobody knows what that one needs.
func (a *Agent) Images() ([]string, error) {
	disk, err := a.loadPods()
	if err != nil {
		return nil, err
	}
	var out []string
	for uid, h := range disk {
		if h.bad != nil {
			return nil, fmt.Errorf("pod %s: %w", uid, h.bad)
		}
		if h.pod != nil {
			for _, c := range h.pod.Spec.Template.All() {
				out = append(out, c.Image)
			}
		}
	}
	for _, p := range a.mem.get().Pods {
		for _, c := range p.Spec.Template.All() {
			out = append(out, c.Image)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
