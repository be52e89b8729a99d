package main

import (
	"encoding/json"
	"net/http"
	"strings"

	"gearmesh.dev/api"
)

// plan serves what an apply would change: a service's new image replaces its pod, what is there is unchanged, what asks for
// an unknown project is refused.
func (m *fakeMaster) plan(w http.ResponseWriter, r *http.Request) {
	var in struct{ Resources []json.RawMessage }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		refuse(w, api.Errorf(api.CodeBadRequest, "%v", err))
		return
	}
	out := api.ApplyPlan{Revision: 7}
	for _, text := range in.Resources {
		var h api.Header
		_ = json.Unmarshal(text, &h)
		c := api.ResourceChange{Kind: h.Kind, Project: h.Metadata.Project, Name: h.Metadata.Name, Result: api.ResultUnchanged, Revision: 5}
		switch {
		case h.Metadata.Project == "nosuch":
			refuse(w, api.Invalid("the plan", []api.Fault{{Field: "resources[0].metadata.project", Message: "there is no project nosuch"}}))
			return
		case strings.Contains(string(text), "web:2"):
			c.Result, c.Fields = api.ResultConfigured, []api.FieldChange{{Field: "spec.containers[0].image", Old: "web:1", New: "web:2"}, {Field: "spec.replicas", New: 3}}
			out.Pods, out.Units, out.Rules = fakePods(), fakeUnits(), fakeRules()
		}
		out.Resources = append(out.Resources, c)
	}
	answer(w, out)
}

// nextMoves has a move, until there is a service called held.
func (m *fakeMaster) nextMoves(w http.ResponseWriter, _ *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.objects[api.Key{Kind: api.KindService, Project: "shop", Name: "held"}] != nil {
		answer(w, api.RebalancePlan{Held: "host h2 is suspect"})
		return
	}
	answer(w, api.RebalancePlan{Pods: []api.PodChange{{Op: api.PodReplace, Project: "shop", Service: "web", Pod: "web-aaaaa", Host: "h1", NewHost: "h2",
		Reason: api.ReasonRebalanced, Message: "host h2 is better: it has 1 pods of the service then, h1 had 2"}}})
}

func fakePods() []api.PodChange {
	web := api.PodChange{Project: "shop", Service: "web"}
	replace, none, keep, end := web, web, web, web
	replace.Op, replace.Pod, replace.Host, replace.NewHost, replace.Reason = api.PodReplace, "web-aaaaa", "h1", "h2", api.ReasonTemplateChange
	replace.Decision = &api.Decision{Host: "h2", Rejected: map[api.Reason]int{api.ReasonCordoned: 1, api.ReasonMemory: 2}}
	none.Op, none.Reason, none.Message = api.PodMake, api.ReasonScaleUp, "none of 2 hosts fits"
	end.Op, end.Pod, end.Host, end.Reason = api.PodEnd, "web-ccccc", "h2", api.ReasonScaleDown
	keep.Op, keep.Pod, keep.Host = api.PodKeep, "web-bbbbb", "h2"
	named := web
	named.Op, named.Service, named.Pod, named.NewHost, named.Reason = api.PodMake, "db", "db-2", "h2", api.ReasonScaleUp
	return []api.PodChange{replace, none, end, keep, named}
}

func fakeUnits() []api.UnitChange {
	return []api.UnitChange{
		{Project: "shop", Service: "web", Unit: `gear-shop-web\x2dpod.slice`, Change: "changed", Diff: "-MemoryMax=1\n+MemoryMax=2\n"},
		{Project: "shop", Service: "web", Unit: "gear-shop-web-pod-log.service", Change: "added"}}
}

func fakeRules() []api.RuleChange {
	return []api.RuleChange{
		{Host: "h1", Project: "shop", Pod: "api-aaaaa", What: "link web", Old: []string{"web-aaaaa on h1"}, New: []string{"new pod of web on h2"}},
		{What: "alias shop.example.com", New: []string{"shop/web http"}}}
}
