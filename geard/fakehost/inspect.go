package fakehost

import (
	"context"
	"reflect"

	"gearmesh.dev/api"
	"gearmesh.dev/geard"
)

// Break takes from a pod what somebody on a real host could: its units, and the rules in its namespace. It runs on.
func (h *Host) Break(uid api.UID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pods[uid].installed, h.pods[uid].links = false, nil
}

// Drift implements geard.Inspector.
func (h *Host) Drift(_ context.Context, want geard.Expected) ([]api.Drift, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []api.Drift
	for _, p := range want.Pods {
		m := p.Pod.Metadata
		add := func(what string, reason api.Reason) {
			out = append(out, api.Drift{Project: m.Project, Pod: m.Name, What: what, Reason: reason})
		}
		x := h.pods[m.UID]
		if x == nil || !x.installed {
			add("units", api.ReasonUnitMissing)
		}
		if x != nil && x.up && len(p.Links) > 0 && !reflect.DeepEqual(x.links, p.Links) {
			add("links", api.ReasonRulesDiffer)
		}
	}
	return out, nil
}

// Mend implements geard.Inspector.
func (h *Host) Mend(ctx context.Context, want geard.Expected) error {
	for _, p := range want.Pods {
		if err := h.Install(ctx, p.Pod); err != nil {
			return err
		}
		if err := h.Relink(ctx, geard.PodLinks{UID: p.Pod.Metadata.UID, New: p.Links}); err != nil {
			return err
		}
	}
	return h.HostRules(ctx, want.Rules)
}
