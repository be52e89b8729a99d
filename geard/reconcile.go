package geard

import (
	"cmp"
	"context"
	"errors"
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

// quietTime is how long a start is left alone before its progress is looked at: a look asks systemd about all units, which then is
// not starting them.
const quietTime = 250 * time.Millisecond

// held is a pod's state on disk.
type held struct {
	pod *api.Pod // shared, not to be changed
	net podstate.Net
	bad error // why it could not be read
}

// sight is what one look has found. Its parts are taken in the order of the fields, so that a task that ends or a patch that
// comes in between makes a pod look busy for too long, and never gone too early: the master forgets a pod
// that is reported as gone.
type sight struct {
	want   []api.Pod
	tasks  map[api.UID]podWork
	disk   map[api.UID]held
	actual []Actual
}

// passRest is how many times longer than a pass took the next one waits, up to maxRest: while many pods start or stop, each
// change wakes the reconciler, and its looks would take the processor from what they look at.
const (
	passRest = 3
	maxRest  = 100 * time.Millisecond
)

// reconcile is one pass: look, plan, start the planned tasks, tell what is.
func (a *Agent) reconcile(ctx context.Context) {
	began := time.Now()
	defer func() { loop.Sleep(ctx, min(passRest*time.Since(began), maxRest)) }()
	s, err := a.look(ctx)
	if err == nil {
		for _, t := range plan(s.want, s.actual, time.Now()) {
			a.begin(ctx, t, s.disk[t.UID])
		}
		a.tell(ctx, s)
		a.forgetGone(s)
		a.sayDamaged(s.disk)
	}
	a.condition(api.ReasonHostError, err)
}

// forgetGone drops what is remembered of pods that are gone: a pass that looked at one when its removal ended remembers it anew. Tasks
// begin in this loop alone, so what is not wanted, not on disk and not busy stays so.
func (a *Agent) forgetGone(s sight) {
	wanted := make(map[api.UID]bool, len(s.want))
	for _, p := range s.want {
		wanted[p.Metadata.UID] = true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for uid, then := range s.tasks {
		_, onDisk := s.disk[uid]
		if now := a.pods[uid]; now != nil && !then.busy && !now.busy && !onDisk && !wanted[uid] {
			delete(a.pods, uid)
		}
	}
}

// look sums up what is wanted and what there is of each pod.
func (a *Agent) look(ctx context.Context) (sight, error) {
	s := sight{want: a.mem.get().Pods, tasks: a.tasksNow()}
	var err error
	if s.disk, err = a.loadPods(); err != nil {
		return s, err
	}
	pods := make([]api.Pod, 0, len(s.disk))
	for _, h := range s.disk {
		if h.pod != nil {
			pods = append(pods, *h.pod)
		}
	}
	units, err := a.cfg.Machine.Pods(ctx, pods)
	if err != nil {
		return s, err
	}
	a.sayUnbounded(pods)
	s.actual = make([]Actual, 0, len(s.disk))
	for uid, h := range s.disk {
		w := s.tasks[uid]
		s.actual = append(s.actual, Actual{UID: uid, Pod: h.pod, Corrupt: h.bad != nil, Units: units[uid], Secrets: h.pod != nil && a.secretsStale(*h.pod), Busy: w.busy, Retry: w.retry,
			Held: h.pod != nil && h.pod.Singleton() && time.Since(w.lease) > heldAfter})
	}
	for uid, w := range s.tasks {
		if _, onDisk := s.disk[uid]; !onDisk && (w.busy || !w.retry.IsZero()) {
			s.actual = append(s.actual, Actual{UID: uid, Busy: w.busy, Retry: w.retry, Absent: true})
		}
	}
	return s, nil
}

// tasksNow copies what is remembered of each pod.
func (a *Agent) tasksNow() map[api.UID]podWork {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make(map[api.UID]podWork, len(a.pods))
	for uid, w := range a.pods {
		out[uid] = *w
	}
	return out
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
		var mended api.Pod
		mended, err = a.mendPod(uid, err)
		pod = &mended
	}
	net, netErr := a.disk.LoadNet(uid)
	if err == nil && podstate.Damaged(netErr) {
		net, netErr = a.mendNet(*pod, netErr)
	}
	if err = cmp.Or(err, netErr); err != nil {
		return held{bad: err, net: net}
	}
	return held{pod: pod, net: net}
}

func (a *Agent) workLocked(uid api.UID) *podWork {
	w := a.pods[uid]
	if w == nil {
		w = &podWork{}
		a.pods[uid] = w
	}
	return w
}

// begin starts a task; reconcile never begins a second one of the same pod. One that has no turn is left to the next pass.
func (a *Agent) begin(ctx context.Context, t Task, h held) {
	pod, ok := a.mem.pod(t.UID)
	if !ok && h.pod != nil {
		pod, ok = *h.pod, true
	}
	if h.pod != nil {
		pod.Metadata.Name = h.pod.Metadata.Name // its units are called so, also when the master has given its name to another pod
	}
	if !ok && t.Op != OpClean || takesTurn(t.Op) && !a.turns.take() {
		return
	}
	a.mu.Lock()
	a.workLocked(t.UID).busy = true
	a.mu.Unlock()
	a.log.Info("pod task", "pod", pod.Metadata.Name, "project", pod.Metadata.Project, "uid", t.UID, "op", t.Op, "reason", t.Reason)
	a.tasks.Go(func() {
		err := a.do(ctx, t, pod, h)
		a.finish(ctx, t, pod, err)
		if takesTurn(t.Op) {
			a.passTurn(ctx, pod, err != nil)
		}
	})
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
	if err == nil && takesTurn(t.Op) && !a.begun(pod) {
		time.AfterFunc(quietTime, a.taskEnded) // gear-run's word comes sooner
		return
	}
	a.taskEnded()
}

func (a *Agent) taskEnded() {
	a.reconcileKick.Wake()
	a.networkKick.Wake()
}

func (a *Agent) do(ctx context.Context, t Task, pod api.Pod, h held) error {
	switch t.Op {
	case OpInstall:
		return a.install(ctx, pod, h)
	case OpStart:
		return a.start(ctx, pod)
	case OpChange:
		return a.change(pod, *h.pod)
	case OpSecrets:
		return Because(api.ReasonSecret, a.renewSecrets(ctx, pod))
	case OpLapse:
		return a.cfg.Machine.Lapse(ctx, pod)
	case OpRemove:
		return a.remove(ctx, pod)
	case OpClean:
		return a.forget(t.UID)
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
	a.mu.Lock()
	a.workLocked(pod.Metadata.UID).made = true
	a.mu.Unlock()
	a.changed.wake() // the DNS server knows the pod before it asks
	a.feed(pod, links)
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

// change takes what of a pod's template changes under running containers. The rules follow from the disk.
func (a *Agent) change(want, pod api.Pod) error {
	if !api.LiveChange(pod.Spec.Template, want.Spec.Template) {
		return Because(api.ReasonHostError, errors.New("the master has changed what the pod's containers are made from; that takes a new pod"))
	}
	pod.Spec.Template, pod.Spec.Live = want.Spec.Template, want.Spec.Live
	if err := admit(pod, a.cfg.MaxPolicy); err != nil {
		return Because(api.ReasonPolicy, err)
	}
	if err := a.cfg.Dirs.SavePod(pod); err != nil {
		return err
	}
	a.changed.wake() // the DNS server
	return nil
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
	g.Go(func() error {
		if pod.Singleton() {
			return a.startHeld(ctx, pod)
		}
		return a.cfg.Machine.Start(ctx, pod)
	})
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
	return a.forget(pod.Metadata.UID)
}

// forget takes a pod off the disk. Nobody makes its socket anew meanwhile.
func (a *Agent) forget(uid api.UID) error {
	a.feeds.Leave(uid)
	if err := a.cfg.Dirs.Remove(uid); err != nil {
		return err
	}
	a.feeds.Forget(uid)
	return nil
}

func (a *Agent) progress(pod api.Pod, g Progress) {
	a.mu.Lock()
	a.workLocked(pod.Metadata.UID).progress = g
	a.mu.Unlock()
	if g.Phase == api.PhaseStopping {
		a.reconcileKick.Wake() // its endpoints go before anything is stopped
		return
	}
	time.AfterFunc(quietTime, a.reconcileKick.Wake)
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
