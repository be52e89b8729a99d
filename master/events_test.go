package master

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
)

// events reads all that are kept.
func (u *user) events(query string) []api.Event {
	u.c.t.Helper()
	s := u.stream("/v1/events" + query)
	var out []api.Event
	for {
		var e api.Event
		if !s.next(&e) {
			return out
		}
		out = append(out, e)
	}
}

func find(list []api.Event, reason api.Reason) *api.Event {
	if i := slices.IndexFunc(list, func(e api.Event) bool { return e.Reason == reason }); i >= 0 {
		return &list[i]
	}
	return nil
}

// TestEventsTellWhatHappened follows a pod from its making over a crash to its end.
func TestEventsTellWhatHappened(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	h1 := c.join("h1", "10.0.0.1")
	h1.tell(h1.report())
	d := h1.desire()
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	ann.must("PUT", "/v1/projects/shop/services/web", web("shop", "web"), http.StatusCreated)
	d.until("the pod", func(d api.Desired) bool { return len(d.Pods) == 1 })
	pod := d.Pods[0]
	made := find(ann.events("?service=web"), api.ReasonScaleUp)
	if made == nil || made.Kind != api.KindPod || made.Name != pod.Metadata.Name || made.Host != "h1" || made.Level != api.EventNormal || made.Count != 1 || !strings.HasPrefix(made.Message, "made: ") {
		t.Errorf("of the pod's making is told %+v", made)
	}
	follow := ann.stream("/v1/events?follow=1&kind=pod&since=1h")
	crash := func(restarts int) api.HostReport {
		r := h1.running(pod, "10.0.0.1:20001")
		r.Pods[0].Status = api.PodStatus{Phase: api.PhaseBackOff, Reason: api.ReasonOOMKilled, Message: "over 24 MiB",
			Containers: []api.ContainerStatus{{Name: "main", Restarts: restarts}}}
		return r
	}
	h1.tell(h1.running(pod, "10.0.0.1:20001"))
	h1.tell(crash(1))
	h1.tell(crash(1))
	h1.tell(crash(2))
	for seen := false; !seen; { // it comes by the stream too, with its count
		var e api.Event
		if !follow.next(&e) {
			t.Fatal("the stream ended")
		}
		seen = e.Reason == api.ReasonOOMKilled && e.Count == 2
	}
	list := ann.events("?project=shop&name=" + string(pod.Metadata.Name))
	if e := find(list, api.ReasonReady); e == nil || e.Count != 1 {
		t.Errorf("that it was ready is told as %+v", e)
	}
	if e := find(list, api.ReasonOOMKilled); e == nil || e.Count != 2 || e.Level != api.EventWarning || e.Last.Before(e.First) || e.Message != "over 24 MiB" {
		t.Errorf("its crashes are told as %+v", e)
	}
	strange := crash(3)
	strange.Pods[0].Status.Reason = "MadeUp"
	h1.tell(strange)
	if e := find(ann.events(""), "MadeUp"); e != nil {
		t.Errorf("a host made up %+v", e)
	}
	ann.must("DELETE", "/v1/projects/shop/services/web", nil, http.StatusOK)
	c.until("that it is to end is told", func() bool {
		e := find(ann.events("?kind=pod"), api.ReasonServiceDeleted)
		return e != nil && strings.HasPrefix(e.Message, "is to end: ")
	})
	if got := ann.events("?project=other"); len(got) != 0 {
		t.Errorf("another project has %+v", got)
	}
	for _, bad := range []string{"?kind=pots", "?name=A_b", "?since=-1m", "?since=soon", "?follow=maybe", "?until=1h"} {
		ann.must("GET", "/v1/events"+bad, nil, http.StatusBadRequest)
	}
	h1.must("GET", "/v1/events", nil, http.StatusForbidden)
}

// TestEventsAreBounded keeps the newest ones for their time, and forgets the others in the store too.
func TestEventsAreBounded(t *testing.T) {
	c := newCache()
	now := time.Now()
	for i := range maxEvents + 3 {
		e := api.Event{Kind: api.KindPod, Project: "shop", Name: api.Name(fmt.Sprintf("web-%d", i)), Reason: api.ReasonExited, Message: strings.Repeat("é", maxEventMessage)}
		op := c.eventOpLocked(e, now.Add(-time.Duration(i)*time.Millisecond))
		if len(op.Value) > 2*maxEventMessage {
			t.Fatalf("an event takes %d bytes", len(op.Value))
		}
		if err := c.apply(store.Batch{Events: []store.Event{{Item: store.Item{Key: op.Key, Value: op.Value}}}}); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.staleEvents(now); len(got) != 3 || got[0] != fmt.Sprintf("event/pod/shop/web-%d/Exited", maxEvents) {
		t.Errorf("too many are %q", got)
	}
	if got := c.staleEvents(now.Add(eventLife + time.Second)); len(got) != maxEvents+3 {
		t.Errorf("after their time %d are stale", len(got))
	}
}

// TestHostEventsTellOnce gives an event when a host falls silent, and when it is back.
func TestHostEventsTellOnce(t *testing.T) {
	well := healthRecord{}
	silent := healthRecord{Silent: map[api.Name]bool{"h1": true}, Failed: map[api.Name]bool{"h1": true}}
	if got := hostEvents(well, silent); len(got) != 2 || find(got, api.ReasonHostSilent) == nil || find(got, api.ReasonMeshFailed) == nil {
		t.Errorf("%+v", got)
	}
	if got := hostEvents(silent, silent); len(got) != 0 {
		t.Errorf("told again: %+v", got)
	}
	if got := hostEvents(silent, well); len(got) != 1 || got[0].Reason != api.ReasonReady {
		t.Errorf("%+v", got)
	}
}
