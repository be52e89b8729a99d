package realhost

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/sys/unix"

	"gearmesh.dev/api"
	"gearmesh.dev/geard"
	"gearmesh.dev/geard/engine"
	"gearmesh.dev/geard/podnet"
	"gearmesh.dev/internal/systemd"
	"gearmesh.dev/linker"
	"gearmesh.dev/unitgen"
)

// Drift implements geard.Inspector. What cannot be looked at ends it: a host that is half seen is not "as it should be".
func (h *Host) Drift(ctx context.Context, want geard.Expected) ([]api.Drift, error) {
	var out []api.Drift
	list, err := h.systemd.List(ctx, unitgen.Prefix+"*")
	if err != nil {
		return nil, err
	}
	units := map[string]systemd.Unit{}
	for _, u := range list {
		units[u.Name] = u
	}
	for _, p := range want.Pods {
		found, err := h.podDrift(ctx, p, units)
		if err != nil {
			return nil, fmt.Errorf("looking at pod %s/%s: %w", p.Pod.Metadata.Project, p.Pod.Metadata.Name, err)
		}
		for _, d := range found {
			d.Project, d.Pod = p.Pod.Metadata.Project, p.Pod.Metadata.Name
			out = append(out, d)
		}
	}
	rules, err := linker.HostPlan(h.hostConfig(want.Rules))
	if err != nil {
		return nil, err
	}
	if out, err = ruleDrift(ctx, out, "", "the host's rules", rules); err != nil {
		return nil, err
	}
	if link, err := net.InterfaceByName(podnet.GatewayLink); len(want.Rules.Pods) > 0 && (err != nil || link.Flags&net.FlagUp == 0) {
		out = append(out, api.Drift{What: "interface " + podnet.GatewayLink, Reason: api.ReasonNoNamespace, Message: "it is not there or down; it is made with the next pod's network"})
	}
	return out, nil
}

// podDrift looks at one pod: its files, its units, its namespace, its links.
func (h *Host) podDrift(ctx context.Context, p geard.ExpectedPod, units map[string]systemd.Unit) ([]api.Drift, error) {
	out, err := fileDrift(p.Pod)
	if err != nil {
		return nil, err
	}
	containers, err := h.engine.ListByLabel(ctx, engine.LabelUID, string(p.Pod.Metadata.UID))
	if err != nil && !errors.Is(err, engine.ErrDown) { // dockerd is another's concern
		return nil, err
	}
	runs := false
	for _, c := range containers {
		runs = runs || c.Running
	}
	out = append(out, unitDrift(containerUnits(p.Pod), units, runs, h.stopped(p.Pod, units))...)
	ns := h.dirs.Namespace(p.Pod.Metadata.UID)
	if !isNamespace(ns) {
		if runs {
			out = append(out, api.Drift{What: ns, Reason: api.ReasonNoNamespace, Message: "containers run in it, but it has no name any more"})
		}
		return out, nil
	}
	rules, err := linker.PodPlan(p.Address, p.Links)
	if err != nil {
		return nil, err
	}
	return ruleDrift(ctx, out, ns, "the pod's links", rules)
}

// fileDrift compares a pod's unit files, and whether they start at boot.
func fileDrift(p api.Pod) ([]api.Drift, error) {
	files, err := unitgen.Render(p)
	if err != nil {
		return nil, err
	}
	var out []api.Drift
	for _, f := range files {
		state, text, err := systemd.Compare(systemd.UnitDir, f)
		switch {
		case err != nil:
			return nil, err
		case state == systemd.FileMissing:
			out = append(out, api.Drift{What: f.Name, Reason: api.ReasonUnitMissing})
		case state == systemd.FileDiffers:
			out = append(out, api.Drift{What: f.Name, Reason: api.ReasonUnitDiffers, Diff: lineDiff(text, f.Text), Message: "somebody has edited it; what should stay belongs into a drop-in (systemctl edit)"})
		case state == systemd.FileForeign:
			out = append(out, api.Drift{What: f.Name, Reason: api.ReasonUnitForeign, Message: "a file of that name is not this pod's, and is left alone; move it away"})
		}
	}
	for _, name := range unitgen.Wants(p) {
		if !systemd.Wanted(systemd.UnitDir, unitgen.Target, name) {
			out = append(out, api.Drift{What: name, Reason: api.ReasonNotEnabled, Message: unitgen.Target + " would not start it at boot"})
		}
	}
	return out, nil
}

// unitDrift tells which of a pod's units do not run though nobody stopped them.
func unitDrift(names []string, units map[string]systemd.Unit, containersRun, stopped bool) []api.Drift {
	if stopped {
		return nil
	}
	var out []api.Drift
	for _, name := range names {
		switch u := units[name]; {
		case u.Job != "" || u.Active != "" && u.Active != "inactive" && u.Active != "failed":
		case containersRun:
			out = append(out, api.Drift{What: name, Reason: api.ReasonNotSupervised, Message: "containers of the pod run, and this unit does not look after its own"})
		default:
			out = append(out, api.Drift{What: name, Reason: api.ReasonUnitNotRunning})
		}
	}
	return out
}

// ruleDrift compares the rules of a namespace with what they should be.
func ruleDrift(ctx context.Context, found []api.Drift, ns, what string, want linker.Rules) ([]api.Drift, error) {
	drifted, err := linker.Drifted(ctx, ns, want)
	if err != nil || !drifted {
		return found, err
	}
	have, err := linker.Read(ctx, ns)
	if err != nil {
		return nil, err
	}
	return append(found, api.Drift{What: what, Reason: api.ReasonRulesDiffer, Diff: lineDiff(have.String(), want.String())}), nil
}

// lineDiff gives the lines that are in have alone, with "-", and those that are in want alone, with "+".
func lineDiff(have, want string) string {
	count := map[string]int{}
	for l := range strings.Lines(want) {
		count[strings.TrimRight(l, "\n")]++
	}
	var b strings.Builder
	for l := range strings.Lines(have) {
		l = strings.TrimRight(l, "\n")
		if count[l]--; count[l] < 0 {
			b.WriteString("-" + l + "\n")
		}
	}
	for l := range strings.Lines(want) {
		l = strings.TrimRight(l, "\n")
		if count[l] > 0 {
			count[l]--
			b.WriteString("+" + l + "\n")
		}
	}
	return b.String()
}

// isNamespace tells whether file is a mounted namespace, and not the plain file that one is mounted on.
func isNamespace(file string) bool {
	var st unix.Statfs_t
	return unix.Statfs(file, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// Mend implements geard.Inspector. A pod that cannot be mended does not keep the others from it.
func (h *Host) Mend(ctx context.Context, want geard.Expected) error {
	var errs []error
	for _, p := range want.Pods {
		if err := h.mendPod(ctx, p); err != nil {
			errs = append(errs, fmt.Errorf("pod %s/%s: %w", p.Pod.Metadata.Project, p.Pod.Metadata.Name, err))
		}
	}
	h.rulesMu.Lock()
	h.laid = nil // whatever was seen last: look again
	h.rulesMu.Unlock()
	return errors.Join(append(errs, h.HostRules(ctx, want.Rules))...)
}

func (h *Host) mendPod(ctx context.Context, p geard.ExpectedPod) error {
	if err := h.Install(ctx, p.Pod); err != nil { // compares every file
		return err
	}
	state, err := h.Pods(ctx, []api.Pod{p.Pod})
	if err != nil || state[p.Pod.Metadata.UID].Stopped {
		return err
	}
	uid := p.Pod.Metadata.UID
	net := unitgen.NetUnit(p.Pod.Metadata.Project, p.Pod.Metadata.Name)
	if state[uid].Up && !isNamespace(h.dirs.Namespace(uid)) {
		// The unit's own reload makes what is missing, and does not touch what runs.
		if err := h.systemd.ReloadUnit(ctx, net); err != nil {
			return err
		}
	}
	if !state[uid].Up {
		if err := h.Start(ctx, p.Pod); err != nil {
			return err
		}
	}
	err = h.Relink(ctx, geard.PodLinks{UID: uid, Address: p.Address, Old: p.Links, New: p.Links})
	if errors.Is(err, geard.ErrNoNamespace) {
		return nil // it lays its links from disk when it is made
	}
	return err
}
