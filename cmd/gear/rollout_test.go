package main

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

// webService wants n pods of an image, as revision rev.
func webService(n int, image string, rev int64) *api.Service {
	s := &api.Service{Header: api.Header{Kind: api.KindService, Metadata: api.Metadata{Name: "web", Project: "shop", Revision: rev}}}
	s.Spec.Replicas = &n
	s.Spec.Containers = []api.Container{{Name: "main", Image: image}}
	return s
}

func webPod(name, image string, status api.PodStatus) *api.Pod {
	p := &api.Pod{Header: api.Header{Kind: api.KindPod, Metadata: api.Metadata{Name: api.Name(name), Project: "shop", UID: api.UID(name)}}}
	p.Spec = api.PodSpec{Service: "web", Template: webService(1, image, 0).Spec.PodTemplate}
	p.Status = status
	return p
}

var (
	readyStatus = api.PodStatus{Phase: api.PhaseRunning, Ready: true}
	pulling     = api.PodStatus{Phase: api.PhasePulling}
	noImage     = api.PodStatus{Phase: api.PhaseBackOff, Reason: api.ReasonImagePull, Message: "not found"}
	nowhere     = api.PodStatus{Phase: api.PhasePending, Reason: api.ReasonUnschedulable}
)

func ended(restarts int) api.PodStatus {
	return api.PodStatus{Phase: api.PhaseBackOff, Reason: api.ReasonExited, Containers: []api.ContainerStatus{{Restarts: restarts}}}
}

// TestRollout plays events, a second each, and asks for the verdict at a time.
func TestRollout(t *testing.T) {
	sync := client.Event{Type: api.EventSync}
	put := func(r api.Resource) client.Event { return client.Event{Type: api.EventPut, Object: r} }
	gone := func(r api.Resource) client.Event { return client.Event{Type: api.EventDelete, Object: r} }
	leaving := webPod("old", "web:1", readyStatus)
	leaving.Metadata.Deleting = true
	tests := map[string]struct {
		events []client.Event
		at     time.Duration
		want   string
	}{
		"nothing yet":              {[]client.Event{sync}, 0, "wait"},
		"all ready":                {[]client.Event{put(webPod("a", "web:2", readyStatus)), put(webPod("b", "web:2", readyStatus)), sync}, 9 * time.Second, "done"},
		"only just ready":          {[]client.Event{put(webPod("a", "web:2", readyStatus)), put(webPod("b", "web:2", readyStatus)), sync}, 1500 * time.Millisecond, "wait"},
		"not before the list ends": {[]client.Event{put(webPod("a", "web:2", readyStatus)), put(webPod("b", "web:2", readyStatus))}, 0, "wait"},
		"old ones do not count":    {[]client.Event{put(webPod("a", "web:1", readyStatus)), put(webPod("b", "web:1", readyStatus)), sync}, 0, "wait"},
		"an old one is left":       {[]client.Event{put(webPod("a", "web:2", readyStatus)), put(webPod("b", "web:2", readyStatus)), put(webPod("old", "web:1", readyStatus)), sync}, 0, "wait"},
		"an old one is leaving":    {[]client.Event{put(webPod("a", "web:2", readyStatus)), put(webPod("b", "web:2", readyStatus)), put(leaving), sync}, 9 * time.Second, "done"},
		"an old one has gone":      {[]client.Event{put(webPod("a", "web:2", readyStatus)), put(webPod("b", "web:2", readyStatus)), put(webPod("old", "web:1", readyStatus)), sync, gone(webPod("old", "web:1", readyStatus))}, 9 * time.Second, "done"},
		"the stream is behind":     {[]client.Event{put(webService(1, "web:1", 3)), put(webPod("a", "web:1", readyStatus)), sync}, 0, "wait"},
		"scaled by somebody else":  {[]client.Event{put(webService(1, "web:2", 9)), put(webPod("a", "web:2", readyStatus)), sync}, 9 * time.Second, "done"},
		"deleted by somebody else": {[]client.Event{sync, gone(webService(2, "web:2", 9))}, 0, "failed"},
		"pulling takes its time":   {[]client.Event{sync, put(webPod("a", "web:2", pulling))}, time.Hour, "wait"},
		"no image, at first":       {[]client.Event{sync, put(webPod("a", "web:2", noImage))}, 5 * time.Second, "wait"},
		"no image":                 {[]client.Event{sync, put(webPod("a", "web:2", noImage))}, time.Minute, "failed"},
		"no image of an old pod":   {[]client.Event{sync, put(webPod("a", "web:1", noImage))}, time.Hour, "wait"},
		"no host":                  {[]client.Event{sync, put(webPod("a", "web:2", nowhere))}, 15 * time.Second, "failed"},
		"ends now and then":        {[]client.Event{sync, put(webPod("a", "web:2", ended(1))), put(webPod("a", "web:2", readyStatus)), put(webPod("a", "web:2", ended(2)))}, 50 * time.Second, "wait"},
		"ends again and again":     {[]client.Event{sync, put(webPod("a", "web:2", ended(0))), put(webPod("a", "web:2", ended(5)))}, 3 * time.Second, "failed"},
		"restarts of before":       {[]client.Event{sync, put(webPod("a", "web:2", ended(50)))}, 3 * time.Second, "wait"},
		"another's pod":            {[]client.Event{sync, put(&api.Pod{Header: api.Header{Metadata: api.Metadata{Name: "x", Project: "blog", UID: "x"}}, Status: noImage})}, time.Hour, "wait"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, begin := newRollout([]*api.Service{webService(2, "web:2", 5)}), time.Unix(0, 0)
			for i, e := range tt.events {
				r.see(e, begin.Add(time.Duration(i)*time.Second))
			}
			if got := verdict(r, begin.Add(tt.at)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func verdict(r *rollout, now time.Time) string {
	if r.done(now) {
		return "done"
	}
	if _, err := r.failed(now); err != nil {
		return "failed"
	}
	return "wait"
}

// A check of either kind tells when a container serves; only without any its first second says nothing.
func TestUnchecked(t *testing.T) {
	check := &api.Check{TCP: &api.TCPCheck{Port: 80}}
	for name, tt := range map[string]struct {
		containers []api.Container
		want       bool
	}{
		"none":                {[]api.Container{{}}, true},
		"readiness":           {[]api.Container{{Ready: check}}, false},
		"start-up alone":      {[]api.Container{{Startup: check}}, false},
		"liveness alone":      {[]api.Container{{Live: check}}, true},
		"one of two has none": {[]api.Container{{Ready: check}, {}}, true},
	} {
		p := &api.Pod{}
		p.Spec.Template.Containers = tt.containers
		if got := unchecked(p); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestProblemsKeepTheirParts(t *testing.T) {
	e := fmt.Errorf("asking: %w", api.Invalid("service web", []api.Fault{{Field: "spec.replicas", Message: "is -1"}}))
	p := asProblem(e)
	if p.what != "service web is not valid" || p.why != "spec.replicas: is -1" || p.code != exitUsage {
		t.Errorf("got %+v", p)
	}
	if p := asProblem(errors.New("reading x: no such file")); p.what != "reading x" || p.why != "no such file" || p.code != exitError {
		t.Errorf("got %+v", p)
	}
}
