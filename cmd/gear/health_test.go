package main

import (
	"strings"
	"testing"

	"gearmesh.dev/api"
)

// A host that runs a pod which the master does not know is a problem, with the step that ends it.
func TestUnknownPodIsAProblem(t *testing.T) {
	h := api.Host{Header: api.Header{Kind: api.KindHost, Metadata: api.Metadata{Name: "h3"}}}
	h.Status = api.HostStatus{State: api.HostReady, Reason: api.ReasonUnknownPod,
		Message: "1 pods run there that the master has not assigned to it: shop/web-aaaaa (aaaaaaaaaaaaaaaa)"}
	s := overview{Hosts: []api.Host{h}}
	s.findProblems()
	if len(s.Problems) != 1 || !strings.HasPrefix(s.Problems[0].Try, "gear host forget-pod h3 aaaaaaaaaaaaaaaa --confirm") {
		t.Errorf("%+v", s.Problems)
	}
	s.Hosts[0].Status.Reason, s.Hosts[0].Status.Message = "", ""
	s.findProblems()
	if len(s.Problems) != 0 {
		t.Errorf("%+v", s.Problems)
	}
}
