package geard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
)

// Inspector compares a machine with what should be there, whatever the agent remembers, and mends it. The
// real one is the same realhost.Host that is the Machine.
type Inspector interface {
	// Drift tells what differs. It changes nothing.
	Drift(ctx context.Context, want Expected) ([]api.Drift, error)
	// Mend asserts everything anew. It stops and restarts nothing that runs.
	Mend(ctx context.Context, want Expected) error
}

// Expected is all that should be on a machine.
type Expected struct {
	Pods  []ExpectedPod
	Rules HostRules
}

// ExpectedPod is a pod on disk with the links it should have.
type ExpectedPod struct {
	Pod     api.Pod
	Address netip.Addr
	Links   []api.LinkTarget
}

// Plan tells what the agent would do now, for the desired state it has: tasks of pods, and what of the host is not
// as it should be. A pod that waits for its next try, or has a task under way, is told as well.
func (a *Agent) Plan(ctx context.Context) (api.HostPlan, error) {
	out := api.HostPlan{Host: a.cfg.Name}
	s, err := a.look(ctx)
	if err != nil {
		return out, err
	}
	for i := range s.actual {
		s.actual[i].Busy, s.actual[i].Retry = false, time.Time{}
	}
	for _, t := range plan(s.want, s.actual, time.Now()) {
		out.Tasks = append(out.Tasks, hostTask(t, s.disk[t.UID], s.want))
	}
	want, _, err := a.expected(s.disk, func(api.UID) bool { return true })
	if err != nil {
		return out, err
	}
	out.Drift, err = a.cfg.Inspect.Drift(ctx, want)
	return out, err
}

// hostTask names the pod of a task for people.
func hostTask(t Task, h held, desired []api.Pod) api.HostTask {
	out := api.HostTask{UID: t.UID, Op: string(t.Op), Reason: t.Reason}
	if h.pod != nil {
		out.Project, out.Pod = h.pod.Metadata.Project, h.pod.Metadata.Name
	}
	for _, p := range desired {
		if p.Metadata.UID == t.UID {
			out.Project, out.Pod = p.Metadata.Project, p.Metadata.Name
		}
	}
	return out
}

// expected gives what should be there of the pods on disk that pick takes. Pods that are to be removed are left out.
func (a *Agent) expected(disk map[api.UID]held, pick func(api.UID) bool) (Expected, []api.UID, error) {
	want := Expected{Rules: a.hostRules()}
	var picked []api.UID
	resolver := a.resolver()
	for uid, h := range disk {
		if h.pod == nil {
			want.Rules.hold(uid, h.net)
			continue
		}
		want.Rules.Pods = append(want.Rules.Pods, h.net)
		ports, err := a.balancedPorts(resolver, *h.pod)
		if err != nil {
			return want, nil, err
		}
		want.Rules.balance(h.net.Address, ports)
		want.Rules.Egress[h.net.Address] = a.egressRules(h)
		if p, ok := a.mem.pod(uid); ok && p.Metadata.Deleting || !pick(uid) {
			continue
		}
		links, err := a.wantedLinks(resolver, *h.pod)
		if err != nil {
			return want, nil, err
		}
		picked = append(picked, uid)
		want.Pods = append(want.Pods, ExpectedPod{Pod: *h.pod, Address: h.net.Address, Links: links})
	}
	slices.SortFunc(want.Pods, func(x, y ExpectedPod) int { return cmp.Compare(x.Pod.Metadata.UID, y.Pod.Metadata.UID) })
	return want, picked, nil
}

// wantedLinks resolves a pod's links. A host that has lost its directory goes by what the pod's own files say.
func (a *Agent) wantedLinks(r *api.Resolver, p api.Pod) ([]api.LinkTarget, error) {
	if len(a.mem.get().Directory.Hosts) > 0 {
		return a.linkTargets(r, p)
	}
	links, err := a.linkFiles.load(p.Metadata.UID)
	if podstate.Missing(err) {
		return nil, nil
	}
	return links, err
}

// Repair asserts everything anew: units, links, namespaces, rules. It tells what differed, and what still does.
// No task of a pod runs meanwhile; pods that have one under way are left to it.
func (a *Agent) Repair(ctx context.Context) (api.Repair, error) {
	out := api.Repair{Host: a.cfg.Name}
	disk, err := a.loadPods()
	if err != nil {
		return out, err
	}
	want, held, err := a.expected(disk, a.hold)
	defer a.release(held)
	if err != nil {
		return out, err
	}
	out.Pods = len(held)
	before, err := a.cfg.Inspect.Drift(ctx, want)
	if err != nil {
		return out, err
	}
	if err := a.mend(ctx, want); err != nil {
		out.Error = err.Error()
	}
	if out.Left, err = a.cfg.Inspect.Drift(ctx, want); err != nil {
		return out, err
	}
	for _, d := range before {
		if !slices.ContainsFunc(out.Left, func(l api.Drift) bool { return sameDrift(l, d) }) {
			out.Mended = append(out.Mended, d)
		}
	}
	a.log.Info("everything was asserted anew", "pods", out.Pods, "mended", len(out.Mended), "left", len(out.Left), "err", out.Error)
	return out, nil
}

func (a *Agent) mend(ctx context.Context, want Expected) error {
	a.rulesMu.Lock()
	defer a.rulesMu.Unlock()
	var errs []error
	links := podstate.ChangedLinks{}
	for _, p := range want.Pods {
		links[p.Pod.Metadata.UID] = p.Links
	}
	for _, err := range a.linkFiles.save(links) {
		errs = append(errs, err)
	}
	return errors.Join(append(errs, a.cfg.Inspect.Mend(ctx, want))...)
}

// sameDrift tells whether two findings are of one thing.
func sameDrift(a, b api.Drift) bool {
	return a.Project == b.Project && a.Pod == b.Pod && a.What == b.What && a.Reason == b.Reason
}

// hold keeps reconcile from a pod, and tells whether it could: not when it has a task under way.
func (a *Agent) hold(uid api.UID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.workLocked(uid)
	if w.busy {
		return false
	}
	w.busy = true
	return true
}

// release gives pods back that were held.
func (a *Agent) release(uids []api.UID) {
	a.mu.Lock()
	for _, uid := range uids {
		w := a.workLocked(uid)
		w.busy, w.linked = false, nil
	}
	a.mu.Unlock()
	a.reconcileKick.Wake()
	a.networkKick.Wake()
}

// Forget removes a pod that is on this host and that the master does not know: its units, containers and rules, not its volumes.
func (a *Agent) Forget(ctx context.Context, uid api.UID) error {
	h := a.loadPod(uid)
	if h.pod == nil {
		return api.Errorf(api.CodeNotFound, "host %s has no pod with the uid %s", a.cfg.Name, uid)
	}
	m := h.pod.Metadata
	if _, ok := a.mem.pod(uid); ok {
		return api.Errorf(api.CodeConflict, "the master knows pod %s/%s; delete its service, %s, instead", m.Project, m.Name, h.pod.Spec.Service)
	}
	if !a.hold(uid) {
		return api.Errorf(api.CodeConflict, "a task of pod %s/%s is under way; try it again in a moment", m.Project, m.Name)
	}
	a.log.Info("pod task", "pod", m.Name, "project", m.Project, "uid", uid, "op", OpRemove, "reason", reasonForgotten)
	err := a.remove(ctx, *h.pod)
	a.finish(ctx, Task{UID: uid, Op: OpRemove, Reason: reasonForgotten}, *h.pod, err)
	if err != nil {
		return fmt.Errorf("removing pod %s/%s: %w", m.Project, m.Name, err)
	}
	return a.layHostRules(ctx)
}

// reasonForgotten is why a pod is removed that an operator has told to forget.
const reasonForgotten = api.Reason("Forgotten")
