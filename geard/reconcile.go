package geard

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/internal/failpoint"
	"gearmesh.dev/internal/loop"
)

// drainDelay is the time between telling everybody that a pod's endpoints are leaving and
// stopping it, so that links and routers have let go of it.
const drainDelay = 500 * time.Millisecond

// restPeriod is how long a pod is left alone after a task, so that units which go down at once
// are not started in a tight loop.
const restPeriod = 2 * time.Second

// held is a pod's state on disk.
type held struct {
	pod *api.Pod
	net podstate.Net
	bad error // why it could not be read
}

// reconcile is one pass: look, plan, start the planned tasks, tell what is.
func (a *Agent) reconcile(ctx context.Context) {
	disk, err := a.loadPods()
	if err == nil {
		var actual []Actual
		if actual, err = a.observe(ctx, disk); err == nil {
			for _, t := range plan(a.mem.get().Pods, actual, time.Now()) {
				a.begin(ctx, t, disk[t.UID])
			}
			a.tell(disk, actual)
			a.sayDamaged(disk)
		}
	}
	a.condition(api.ReasonHostError, err)
}

func (a *Agent) loadPods() (map[api.UID]held, error) {
	uids, err := a.disk.Pods()
	if err != nil {
		return nil, err
	}
	disk := make(map[api.UID]held, len(uids))
	for _, uid := range uids {
		disk[uid] = a.loadPod(uid)
	}
	return disk, nil
}

func (a *Agent) loadPod(uid api.UID) held {
	pod, err := a.disk.LoadPod(uid)
	if podstate.Missing(err) {
		return held{}
	}
	if podstate.Damaged(err) {
		pod, err = a.mendPod(uid, err)
	}
	net, netErr := a.disk.LoadNet(uid)
	if err == nil && podstate.Damaged(netErr) {
		net, netErr = a.mendNet(pod, netErr)
	}
	if err = cmp.Or(err, netErr); err != nil {
		return held{bad: err, net: net}
	}
	return held{pod: &pod, net: net}
}

// observe sums up what there is of each pod on disk.
func (a *Agent) observe(ctx context.Context, disk map[api.UID]held) ([]Actual, error) {
	var pods []api.Pod
	for _, h := range disk {
		if h.pod != nil {
			pods = append(pods, *h.pod)
		}
	}
	units, err := a.cfg.Machine.Pods(ctx, pods)
	if err != nil {
		return nil, err
	}
	a.sayUnbounded(pods)
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []Actual
	for uid, h := range disk {
		w := a.workLocked(uid)
		out = append(out, Actual{UID: uid, Pod: h.pod, Corrupt: h.bad != nil, Units: units[uid], Secrets: h.pod != nil && a.secretsStale(*h.pod), Busy: w.busy, Retry: w.retry})
	}
	for _, want := range a.mem.get().Pods {
		uid := want.Metadata.UID
		if w := a.pods[uid]; w != nil && (w.busy || !w.retry.IsZero()) {
			if _, onDisk := disk[uid]; !onDisk {
				out = append(out, Actual{UID: uid, Busy: w.busy, Retry: w.retry, Absent: true})
			}
		}
	}
	return out, nil
}

func (a *Agent) workLocked(uid api.UID) *podWork {
	w := a.pods[uid]
	if w == nil {
		w = &podWork{}
		a.pods[uid] = w
	}
	return w
}

// begin starts a task; reconcile never begins a second one of the same pod.
func (a *Agent) begin(ctx context.Context, t Task, h held) {
	pod, ok := a.mem.pod(t.UID)
	if !ok && h.pod != nil {
		pod, ok = *h.pod, true
	}
	if !ok && t.Op != OpClean {
		return
	}
	a.mu.Lock()
	a.workLocked(t.UID).busy = true
	a.mu.Unlock()
	a.log.Info("pod task", "pod", pod.Metadata.Name, "project", pod.Metadata.Project, "uid", t.UID, "op", t.Op, "reason", t.Reason)
	a.tasks.Go(func() { a.finish(ctx, t, pod, a.do(ctx, t, pod, h)) })
}

// finish notes how a task ended; one that did not succeed is tried again after 1 s, 2 s, 4 s … 60 s.
func (a *Agent) finish(ctx context.Context, t Task, pod api.Pod, err error) {
	a.mu.Lock()
	w := a.workLocked(t.UID)
	w.busy = false
	switch {
	case err == nil && t.Op == OpStart:
		w.failures, w.retry, w.progress = 0, time.Now().Add(restPeriod), Progress{}
	case err == nil:
		w.failures, w.retry, w.progress = 0, time.Time{}, Progress{}
	case ctx.Err() == nil:
		wait := min(time.Second<<min(w.failures, 6), time.Minute)
		w.failures++
		w.retry = time.Now().Add(wait)
		w.progress = Progress{Reason: reasonOf(err), Message: err.Error()}
		a.log.Warn("pod task did not succeed", "pod", pod.Metadata.Name, "op", t.Op, "retry", wait, "err", err)
		time.AfterFunc(wait, a.reconcileKick.Wake)
	}
	if err == nil && (t.Op == OpRemove || t.Op == OpClean) {
		delete(a.pods, t.UID)
	}
	a.mu.Unlock()
	a.reconcileKick.Wake()
	a.networkKick.Wake()
}

func (a *Agent) do(ctx context.Context, t Task, pod api.Pod, h held) error {
	switch t.Op {
	case OpInstall:
		return a.install(ctx, pod, h)
	case OpStart:
		return a.start(ctx, pod)
	case OpSecrets:
		return Because(api.ReasonSecret, a.renewSecrets(ctx, pod))
	case OpRemove:
		return a.remove(ctx, pod)
	case OpClean:
		return a.cfg.Dirs.Remove(t.UID)
	}
	return fmt.Errorf("there is no operation %q", t.Op)
}

// install puts a pod on disk, then its units, its images and its rules, then starts it. The disk
// comes first: from there on the host finishes the work after any crash.
func (a *Agent) install(ctx context.Context, pod api.Pod, h held) error {
	if h.pod != nil {
		return a.cfg.Machine.Install(ctx, pod) // whether it should be started, the next plan decides
	}
	if err := admit(pod, a.cfg.MaxPolicy); err != nil {
		return Because(api.ReasonPolicy, err)
	}
	if err := a.cfg.Volumes.Save(a.cfg.Dirs, pod); err != nil {
		return Because(api.ReasonVolume, err)
	}
	if err := a.keepSecrets(pod); err != nil {
		return Because(api.ReasonSecret, err)
	}
	net, err := h.net, error(nil)
	if !net.Address.IsValid() { // a pod whose file is damaged keeps its place: it may be running there
		net, err = a.place(pod)
	}
	if err != nil {
		return Because(api.ReasonNoPorts, err)
	}
	if err := failpoint.Hit(failpoint.InstallBeforeSave); err != nil {
		return err
	}
	links, err := a.linkTargets(a.resolver(), pod)
	if err != nil {
		return err
	}
	if err := a.cfg.Dirs.Save(pod, net, links); err != nil {
		return err
	}
	if err := failpoint.Hit(failpoint.InstallAfterSave); err != nil {
		return err
	}
	a.changed.wake() // the DNS server knows the pod before it asks
	if a.egress(held{pod: &pod}) != nil {
		// Its units may start at any time from here on, at a boot too: what it is held to is laid, and on disk, before.
		if err := a.layHostRules(ctx); err != nil {
			return err
		}
	}
	if err := a.cfg.Machine.Install(ctx, pod); err != nil {
		return err
	}
	return a.start(ctx, pod)
}

func (a *Agent) start(ctx context.Context, pod api.Pod) error {
	a.progress(pod, Progress{Phase: api.PhasePulling})
	if err := a.cfg.Machine.Pull(ctx, pod); err != nil {
		return err
	}
	if err := failpoint.Hit(failpoint.StartAfterPull); err != nil {
		return err
	}
	a.progress(pod, Progress{Phase: api.PhaseStarting})
	if hasBalanced(pod) {
		a.balance(ctx)
	}
	if a.egress(held{pod: &pod}) != nil {
		if err := a.layHostRules(ctx); err != nil {
			return err
		}
	}
	// The pod does not count as ready before this task has ended, and so not before its ports are mapped.
	var g errgroup.Group
	g.Go(func() error { return a.layHostRules(ctx) })
	g.Go(func() error { return a.cfg.Machine.Start(ctx, pod) })
	if err := g.Wait(); err != nil {
		return err
	}
	return failpoint.Hit(failpoint.StartAfterStart)
}

// remove takes a pod away. Its endpoints are withdrawn before anything is stopped.
func (a *Agent) remove(ctx context.Context, pod api.Pod) error {
	a.progress(pod, Progress{Phase: api.PhaseStopping})
	loop.Sleep(ctx, drainDelay)
	if err := failpoint.Hit(failpoint.RemoveBeforeStop); err != nil {
		return err
	}
	if err := a.cfg.Machine.Remove(ctx, pod); err != nil {
		return err
	}
	if err := a.deleteVolumes(pod); err != nil {
		return Because(api.ReasonVolume, err)
	}
	if err := failpoint.Hit(failpoint.RemoveBeforeState); err != nil {
		return err
	}
	return a.cfg.Dirs.Remove(pod.Metadata.UID)
}

func (a *Agent) progress(pod api.Pod, g Progress) {
	a.mu.Lock()
	a.workLocked(pod.Metadata.UID).progress = g
	a.mu.Unlock()
	a.reconcileKick.Wake()
}

// place gives a pod an address and host ports.
func (a *Agent) place(pod api.Pod) (podstate.Net, error) {
	disk, err := a.loadPods()
	if err != nil {
		return podstate.Net{}, err
	}
	var used []podstate.Net
	for _, h := range disk {
		used = append(used, h.net)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	net, err := a.places.take(pod, used, a.cfg.Machine.PortFree)
	net.HostAddress, net.Domain = a.cfg.Address, a.cfg.Domain
	return net, err
}

// Because gives an error of a Machine the reason that the pod's status shows.
func Because(reason api.Reason, err error) error {
	if err == nil {
		return nil
	}
	return reasonError{reason, err}
}

// reasonError gives an error the reason that the pod's status shows.
type reasonError struct {
	reason api.Reason
	error
}

func (e reasonError) Unwrap() error { return e.error }

func addrPort(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
