package geard

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
)

func TestPlan(t *testing.T) {
	now := time.Unix(100, 0)
	wanted := func(deleting bool) []api.Pod {
		p := api.Pod{}
		p.Metadata.UID, p.Metadata.Deleting = "u", deleting
		return []api.Pod{p}
	}
	onDisk := &wanted(false)[0]
	up := UnitsState{Installed: true, Up: true}
	single := &wanted(false)[0]
	single.Spec.Fence = 1
	for name, tc := range map[string]struct {
		desired []api.Pod
		actual  []Actual
		want    []Task
	}{
		"new":                     {wanted(false), nil, []Task{{"u", OpInstall, reasonAssigned}}},
		"runs":                    {wanted(false), []Actual{{UID: "u", Pod: onDisk, Units: up}}, nil},
		"save cut short":          {wanted(false), []Actual{{UID: "u"}}, []Task{{"u", OpInstall, reasonUnits}}},
		"pod file unreadable":     {wanted(false), []Actual{{UID: "u", Corrupt: true}}, []Task{{"u", OpInstall, reasonUnits}}},
		"units missing":           {wanted(false), []Actual{{UID: "u", Pod: onDisk}}, []Task{{"u", OpInstall, reasonUnits}}},
		"unit down":               {wanted(false), []Actual{{UID: "u", Pod: onDisk, Units: UnitsState{Installed: true}}}, []Task{{"u", OpStart, reasonNotUp}}},
		"stopped by operator":     {wanted(false), []Actual{{UID: "u", Pod: onDisk, Units: UnitsState{Installed: true, Stopped: true}}}, nil},
		"singleton runs":          {wanted(false), []Actual{{UID: "u", Pod: single, Units: UnitsState{Installed: true, Up: true, Leased: true}, Held: true}}, nil},
		"singleton held":          {wanted(false), []Actual{{UID: "u", Pod: single, Units: UnitsState{Installed: true}, Held: true}}, nil},
		"singleton may start":     {wanted(false), []Actual{{UID: "u", Pod: single, Units: UnitsState{Installed: true}}}, []Task{{"u", OpStart, reasonNotUp}}},
		"singleton, no timer":     {wanted(false), []Actual{{UID: "u", Pod: single, Units: up}}, []Task{{"u", OpLapse, reasonNoTimer}}},
		"unknown, no timer":       {nil, []Actual{{UID: "u", Pod: single, Units: up}}, []Task{{"u", OpLapse, reasonNoTimer}}},
		"deleted":                 {wanted(true), []Actual{{UID: "u", Pod: onDisk, Units: up}}, []Task{{"u", OpRemove, reasonDeleted}}},
		"deleted, half removed":   {wanted(true), []Actual{{UID: "u"}}, []Task{{"u", OpRemove, reasonDeleted}}},
		"deleted and gone":        {wanted(true), nil, nil},
		"busy":                    {wanted(true), []Actual{{UID: "u", Pod: onDisk, Busy: true}}, nil},
		"busy, nothing on disk":   {wanted(false), []Actual{{UID: "u", Absent: true, Busy: true}}, nil},
		"waits for its retry":     {wanted(false), []Actual{{UID: "u", Absent: true, Retry: now.Add(1)}}, nil},
		"retry is due":            {wanted(false), []Actual{{UID: "u", Absent: true, Retry: now}}, []Task{{"u", OpInstall, reasonAssigned}}},
		"unknown pod runs on":     {nil, []Actual{{UID: "u", Pod: onDisk, Units: up}}, nil},
		"unknown pod, units gone": {nil, []Actual{{UID: "u", Pod: onDisk}}, []Task{{"u", OpInstall, reasonUnits}}},
		"unknown pod unreadable":  {nil, []Actual{{UID: "u", Corrupt: true}}, nil},
		"directory without a pod": {nil, []Actual{{UID: "u"}}, []Task{{"u", OpClean, reasonLeftover}}},
		"unknown and never saved": {nil, []Actual{{UID: "u", Absent: true}}, nil},
	} {
		if d := cmp.Diff(tc.want, plan(tc.desired, tc.actual, now)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestStatusOfAPodOnItsLinks(t *testing.T) {
	at := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:20001")}
	up := api.LinkTarget{Service: "db", Port: 1, WaitFor: api.WaitAlways, Backends: at}
	always, ready, free := api.LinkTarget{Service: "db", Port: 5432, WaitFor: api.WaitAlways}, api.LinkTarget{Service: "db", Port: 5432, WaitFor: api.WaitReady}, api.LinkTarget{Service: "x", Port: 2}
	runs, starts := api.PodStatus{Phase: api.PhaseRunning, Ready: true}, api.PodStatus{Phase: api.PhaseStarting, Reason: api.ReasonNotReady}
	lacks := api.PodStatus{Phase: api.PhaseRunning, Reason: api.ReasonLinkDown, Message: "link db:5432 has no ready backend"}
	waits := lacks
	waits.Phase = api.PhaseStarting
	ends := api.PodStatus{Phase: api.PhaseStopping}
	for name, tc := range map[string]struct {
		in    api.PodStatus
		links []api.LinkTarget
		want  api.PodStatus
	}{
		"no links": {runs, nil, runs}, "has it": {runs, []api.LinkTarget{up}, runs}, "one that nobody waits for": {runs, []api.LinkTarget{free}, runs},
		"always, lacks it": {runs, []api.LinkTarget{up, always}, lacks}, "ready, lacks it now": {runs, []api.LinkTarget{ready}, runs},
		"starts": {starts, []api.LinkTarget{free, ready}, waits}, "ends": {ends, []api.LinkTarget{always}, ends},
	} {
		if d := cmp.Diff(tc.want, onLinks(tc.in, tc.links), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestPodStatus(t *testing.T) {
	runs := func(s ...api.ContainerStatus) []api.ContainerStatus { return s }
	ok := api.ContainerStatus{Name: "main", State: api.RunRunning, Ready: true}
	starting := api.ContainerStatus{Name: "main", State: api.RunWaiting}
	unready := api.ContainerStatus{Name: "main", State: api.RunRunning, Message: "connection refused"}
	exited := api.ContainerStatus{Name: "side", State: api.RunBackOff, Reason: api.ReasonExited, Message: "exit status 3"}
	type result struct {
		Phase  api.Phase
		Ready  bool
		Reason api.Reason
	}
	for name, tc := range map[string]struct {
		deleting, exists bool
		units            UnitsState
		busy             bool
		runs             []api.ContainerStatus
		progress         Progress
		want             result
	}{
		"ready":               {exists: true, runs: runs(ok), want: result{api.PhaseRunning, true, ""}},
		"not ready":           {exists: true, runs: runs(unready), want: result{api.PhaseRunning, false, api.ReasonNotReady}},
		"starting":            {exists: true, runs: runs(starting), want: result{api.PhaseStarting, false, api.ReasonNotReady}},
		"worst container":     {exists: true, runs: runs(starting, exited, ok), want: result{api.PhaseBackOff, false, api.ReasonExited}},
		"pulling":             {exists: true, progress: Progress{Phase: api.PhasePulling}, want: result{api.PhasePulling, false, ""}},
		"image":               {exists: true, progress: Progress{Reason: api.ReasonImagePull, Message: "x"}, want: result{api.PhaseBackOff, false, api.ReasonImagePull}},
		"stopped by operator": {exists: true, units: UnitsState{Stopped: true}, runs: runs(ok), want: result{api.PhaseStopped, false, api.ReasonStopped}},
		"being removed":       {deleting: true, exists: true, busy: true, runs: runs(ok), want: result{api.PhaseStopping, false, ""}},
		"gone":                {deleting: true, want: result{api.PhaseGone, false, ""}},
	} {
		p := api.Pod{}
		p.Metadata.Deleting = tc.deleting
		s := podStatus(p, Actual{Units: tc.units, Busy: tc.busy}, tc.exists, podstate.Net{}, tc.runs, tc.progress)
		if got := (result{s.Phase, s.Ready, s.Reason}); got != tc.want {
			t.Errorf("%s: got %+v, want %+v", name, got, tc.want)
		}
	}
}

func TestPlacesAreNotGivenTwice(t *testing.T) {
	p := newPlaces(PortLast - PortFirst - 1) // starts near the end of the circle
	pod := api.Pod{}
	pod.Spec.Template.Ports = []api.Port{{Name: "a", Port: 1, Protocol: api.TCP}, {Name: "b", Port: 2, Protocol: api.TCP}}
	var used []podstate.Net
	seen := map[any]bool{}
	for range 600 {
		n, err := p.take(pod, used, func(_ api.Protocol, port uint16) bool { return port%7 != 0 })
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []any{n.Address, n.Ports[0].HostPort, n.Ports[1].HostPort} {
			if seen[key] {
				t.Fatalf("%v was given twice", key)
			}
			seen[key] = true
		}
		if n.Ports[0].HostPort%7 == 0 || !podstate.Prefix().Contains(n.Address) || n.Address == podstate.Gateway() {
			t.Fatalf("%+v is not free", n)
		}
		used = append(used, n)
	}
	if _, err := p.take(pod, used, func(api.Protocol, uint16) bool { return false }); err == nil {
		t.Error("a port was given although none is free")
	}
}
