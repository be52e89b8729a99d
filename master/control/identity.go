package control

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"gearmesh.dev/api"
)

// identity tells whether each pod of the service has a name of its own that outlasts it.
func (f *fleet) identity() bool { return f.Spec.Identity != "" }

// ordered tells whether its pods start and end one after the other.
func (f *fleet) ordered() bool { return f.Spec.Identity == api.IdentityOrdered }

// ordinal gives the number of a pod in its service; one without an identity comes after all that have one.
func (r replica) ordinal() int {
	if r.Spec.Ordinal == nil {
		return math.MaxInt
	}
	return *r.Spec.Ordinal
}

// holdsName tells whether no later pod can have the pod's name yet.
func (r replica) holdsName() bool { return r.Metadata.Name == r.HeldName() }

// retireIdentity ends the pods of a service with identity that must go, each before the next one of its name is made.
func (p *planner) retireIdentity(f *fleet) {
	p.dropWaiting(f)
	p.dropHighest(f)
	p.rollIdentity(f)
}

// dropHighest ends what is more than wanted, from the highest number on; when the service is ordered, one after the other. Pods
// of a time when the service had no identity come first.
func (p *planner) dropHighest(f *fleet) {
	list := slices.Clone(f.live)
	slices.SortStableFunc(list, func(a, b replica) int { return cmp.Compare(b.ordinal(), a.ordinal()) })
	ending := slices.ContainsFunc(f.leaving, func(r replica) bool { return r.ordinal() >= f.want && p.runs(r.Pod) })
	for _, r := range list {
		surplus := r.ordinal() >= f.want && (r.Spec.Ordinal != nil || len(f.live) > f.want)
		if !surplus || f.ordered() && ending {
			continue
		}
		p.retireOne(f, r, api.ReasonScaleDown, f.lacks())
		ending = ending || r.Spec.Host != ""
	}
}

// rollIdentity ends one pod that is out of date, when none is ending.
func (p *planner) rollIdentity(f *fleet) {
	if slices.ContainsFunc(f.leaving, func(r replica) bool { return p.runs(r.Pod) }) {
		return
	}
	if old, ok := f.nextToRoll(); ok {
		p.retireOne(f, old, old.outdated, "it ends before a newer pod takes its name, since there are never two of one")
	}
}

// nextToRoll gives the pod to replace next, when all are there: the highest number. A lower one that does not work comes first,
// since those above it would wait for it. Without an order it is the pod that is missed least, while all new ones are ready.
func (f *fleet) nextToRoll() (replica, bool) {
	stale := f.pick(func(r replica) bool { return r.outdated != "" && !r.silent })
	broken := f.pick(func(r replica) bool { return !r.ready })
	switch all := len(f.live) >= f.want; {
	case len(stale) == 0:
		return replica{}, false
	case !f.ordered():
		return victim(stale), all && allReady(f.current())
	case len(broken) > 0:
		first := slices.MinFunc(broken, byOrdinal)
		return first, first.outdated != "" && !first.silent
	default:
		return slices.MaxFunc(stale, byOrdinal), all
	}
}

func byOrdinal(a, b replica) int {
	return cmp.Or(cmp.Compare(a.ordinal(), b.ordinal()), cmp.Compare(a.Metadata.Name, b.Metadata.Name))
}

// slot is what there is of one number of a service with identity.
type slot struct {
	live *replica // wanted to run
	held *replica // one before it, which may run, or has its name until a later plan
	gone *api.Pod // nothing is left of the last one but its record, which says where its volumes are
}

func (s slot) free() bool { return s.live == nil && s.held == nil }

// slots sorts the pods of a service with identity by their numbers, and counts those that have none and may run.
func (v *View) slots(f *fleet) (slots []slot, others int) {
	slots = make([]slot, f.want)
	at := func(r replica) *slot {
		if r.ordinal() < f.want {
			return &slots[r.ordinal()]
		}
		return &slot{}
	}
	for i := range f.live {
		at(f.live[i]).live = &f.live[i]
	}
	for i, r := range f.leaving {
		if v.runs(r.Pod) || r.holdsName() {
			at(r).held = &f.leaving[i]
		}
	}
	for _, r := range f.gone {
		if r.holdsName() {
			at(r).gone = r.Pod
		}
	}
	for _, r := range slices.Concat(f.live, f.leaving) {
		if r.Spec.Ordinal == nil {
			others++
		}
	}
	return slots, others
}

// createIdentity makes the pods whose numbers are free: nothing before them can run any more. In an ordered service that is the
// lowest one, and only when all below it are ready.
func (p *planner) createIdentity(f *fleet) {
	p.freeNames(f)
	slots, used := p.slots(f)
	for _, s := range slots {
		if !s.free() {
			used++
		}
	}
	for n, s := range slots {
		if s.free() && used < f.want && p.makeOrdinal(f, n, s.gone) {
			used++
		}
		if f.ordered() && (s.live == nil || !s.live.ready) {
			return
		}
	}
}

// makeOrdinal makes pod n. It takes the place of the record of the last one in one write, so that where its volumes are is
// never forgotten. It makes none, and says no, while other pods have the names of its units.
func (p *planner) makeOrdinal(f *fleet, n int, last *api.Pod) bool {
	if p.names == nil {
		p.names = namesOf(p.Pods)
	}
	if _, clash := p.names.clash(f.Service, n); clash {
		return false
	}
	cause, why := f.succession(n)
	pin, revision := api.Name(""), int64(0)
	if last != nil {
		pin, revision = f.pin(last), last.Metadata.Revision
		f.gone = slices.DeleteFunc(f.gone, func(r replica) bool { return r.Pod == last })
	}
	pod := p.newOrdinal(f, n, cause, pin)
	pod.Metadata.Revision = revision
	p.place(f, pod)
	p.add(f, pod, why)
	return true
}

func (p *planner) newOrdinal(f *fleet, n int, cause api.Reason, pin api.Name) *api.Pod {
	pod := p.blankPod(f, cause, pin)
	pod.Spec.Ordinal = &n
	pod.Metadata.Name, pod.Metadata.UID = api.OrdinalName(f.Metadata.Name, n), p.newUID()
	return pod
}

// succession says why pod n is made, by what became of those before it.
func (f *fleet) succession(n int) (cause api.Reason, why string) {
	cause, why = api.ReasonScaleUp, f.lacks()
	for _, r := range slices.Concat(f.gone, f.leaving) {
		if r.ordinal() != n || r.Spec.Ending == api.ReasonScaleDown {
			continue
		}
		cause, why = cmp.Or(r.Spec.Ending, r.outdated, cause), fmt.Sprintf("pod %s has ended", r.HeldName())
	}
	return cause, why
}

// freeNames gives the pods that no longer run on a silent host another name, and marks them: by that name they wait for their
// host. Which of them a pod can be started elsewhere for is looked at first, but for those that are marked already.
func (p *planner) freeNames(f *fleet) {
	silent := func(r replica) bool { return r.ordinal() < f.want && r.Spec.Host != "" && !p.runs(r.Pod) }
	for _, r := range slices.Clone(f.leaving) {
		if silent(r) && r.holdsName() {
			p.rename(r, cmp.Or(r.Spec.Ending, api.ReasonHostLost))
		}
	}
	if p.brake.on {
		return
	}
	for _, r := range slices.Clone(f.live) {
		if !silent(r) {
			continue
		}
		trial := p.newOrdinal(f, r.ordinal(), api.ReasonHostLost, "")
		if p.place(f, trial); trial.Spec.Host == "" && trial.Spec.Placement.Waits == "" {
			continue
		}
		p.rename(r, api.ReasonHostLost)
		p.cluster.Retire(r.Pod)
		f.drop(r)
		f.leaving = append(f.leaving, r)
	}
}

// rename marks a pod whose timer has ended it, and leaves its name to the next one. Its host knows it by its uid.
func (p *planner) rename(r replica, reason api.Reason) {
	next := *r.Pod
	next.Metadata.Deleting, next.Spec.Ending = true, reason
	next.Metadata.Name = suffixed(r.HeldName(), string(r.Metadata.UID[:renameLen]))
	why := fmt.Sprintf("host %s has been silent for longer than %s, and the pod's timer has ended it; the name %s is free", r.Spec.Host, api.SingletonSilence, r.HeldName())
	p.acts = append(p.acts, Action{Op: Rename, Object: &next, From: r.Key(), Reason: reason, Why: why})
}

// renameLen is how much of a pod's uid is in its other name: more than in that of a pod without identity, so that they never meet.
const renameLen = 8

// leftOn names the hosts that still have something of the pods before one with an identity: they would have two of its name.
func (f *fleet) leftOn(pod *api.Pod) []string {
	var out []string
	if pod.Spec.Ordinal == nil {
		return nil
	}
	for _, r := range f.leaving {
		if r.ordinal() == *pod.Spec.Ordinal && r.Spec.Host != "" {
			out = append(out, string(r.Spec.Host))
		}
	}
	return out
}

// record tells whether a pod is kept, although nothing runs of it, because it says where the volumes of its name are.
func (v *View) record(f *fleet, pod *api.Pod) bool {
	return f.identity() && pod.Spec.Ordinal != nil && pod.Metadata.Name == pod.HeldName() && v.gone(pod) && v.pinned(f, f.pin(pod)) != ""
}

// keptRecord is record for a pod of any service.
func (v *View) keptRecord(pod *api.Pod) bool {
	if pod.Spec.Ordinal == nil || !pod.Metadata.Deleting {
		return false
	}
	s := v.services[serviceKey{pod.Metadata.Project, pod.Spec.Service}]
	return s != nil && !s.Metadata.Deleting && v.record(&fleet{Service: s}, pod)
}

// pinOf names the host that has the volumes of a pod.
func (v *View) pinOf(pod *api.Pod) api.Name {
	return (&fleet{Service: v.services[serviceKey{pod.Metadata.Project, pod.Spec.Service}]}).pin(pod)
}

// awaits says what a service with identity waits for when it has not as many pods as it wants.
func (v *View) awaits(f *fleet) string {
	slots, _ := v.slots(f)
	for n, s := range slots {
		name := api.OrdinalName(f.Metadata.Name, n)
		if other, clash := v.unitNames().clash(f.Service, n); s.free() && clash {
			return fmt.Sprintf("pod %s cannot be made: its units would be called as those of pod %s/%s; give the service another name", name, other.project, other.name)
		}
		if s.held != nil {
			return fmt.Sprintf("pod %s must end on host %s first, since there are never two of one name; bring the host back, or delete it when it will not return", s.held.Metadata.Name, s.held.Spec.Host)
		}
		if f.ordered() && s.live != nil && !s.live.ready {
			return fmt.Sprintf("pod %s is made when %s is ready", api.OrdinalName(f.Metadata.Name, n+1), name)
		}
	}
	return f.lacks()
}
