package geard

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
)

// reasonDamaged is the condition of a host that has state on disk which cannot be read, and which nobody can make anew.
const reasonDamaged = api.Reason("StateDamaged")

// mendPlaces puts on disk twice what nobody else knows. A disk that does not take it has its own condition later.
func (a *Agent) mendPlaces() {
	uids, err := a.cfg.Dirs.Pods()
	if err != nil {
		a.log.Warn("looking for pods' places", "err", err)
	}
	for _, uid := range uids {
		did, err := a.cfg.Dirs.MendNet(uid)
		switch {
		case err != nil && !podstate.Missing(err):
			a.log.Warn("the place of a pod cannot be kept twice", "uid", uid, "err", err)
		case did != "":
			a.log.Warn("a file was missing or damaged", "uid", uid, "did", did)
		}
	}
}

// sayDamaged makes it a condition of the host that it has pods which can neither be read nor asked for again: they run
// on, and are neither deleted nor changed.
func (a *Agent) sayDamaged(disk map[api.UID]held) {
	var errs []error
	for uid, h := range disk {
		if h.bad == nil {
			continue
		}
		if _, wanted := a.mem.pod(uid); !wanted {
			errs = append(errs, fmt.Errorf("pod %s runs on as it is, and is not known to the master: %w; put the file back, or move %q away", uid, h.bad, a.cfg.Dirs.Pod(uid)))
		}
	}
	slices.SortFunc(errs, func(x, y error) int { return cmp.Compare(x.Error(), y.Error()) })
	a.condition(reasonDamaged, errors.Join(errs...))
}

// mendPod makes a pod's file anew from what the master said.
func (a *Agent) mendPod(uid api.UID, bad error) (api.Pod, error) {
	pod, ok := a.mem.pod(uid)
	if !ok {
		return api.Pod{}, bad
	}
	a.log.Warn("the file of a pod is damaged and made anew", "pod", pod.Metadata.Name, "uid", uid, "err", bad)
	if err := a.cfg.Dirs.SavePod(pod); err != nil {
		a.log.Warn("it will be tried again", "err", err)
	}
	return pod, nil
}

// mendNet finds the place of a pod whose both copies are damaged: it may be running there.
func (a *Agent) mendNet(pod api.Pod, bad error) (podstate.Net, error) {
	n, ok := a.cfg.Dirs.FindNet(pod, a.cfg.Name, a.mem.get().Directory)
	if !ok {
		return n, bad
	}
	n.HostAddress, n.Domain = a.cfg.Address, a.cfg.Domain
	a.log.Warn("the place of a pod was lost and is found again", "pod", pod.Metadata.Name, "uid", pod.Metadata.UID, "address", n.Address, "err", bad)
	if _, err := a.cfg.Dirs.KeepNet(pod.Metadata.UID, n); err != nil {
		a.log.Warn("it will be tried again", "err", err)
	}
	return n, nil
}
