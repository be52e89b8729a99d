package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"gearmesh.dev/api"
)

// apply stores all resources or none, as POST /v1/apply of docs/http-api.md. A service is refused whose image is called "refused".
func (m *fakeMaster) apply(w http.ResponseWriter, r *http.Request) {
	var in struct{ Resources []json.RawMessage }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		refuse(w, api.Errorf(api.CodeBadRequest, "%v", err))
		return
	}
	var list []api.Resource
	for _, text := range in.Resources {
		var h api.Header
		_ = json.Unmarshal(text, &h)
		o := api.New(h.Kind)
		_ = json.Unmarshal(text, o)
		list = append(list, o)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.refusesLocked(list, r.URL.Query().Get("ifRevision")); e != nil {
		refuse(w, e)
		return
	}
	out := api.Applied{DryRun: r.URL.Query().Get("dryRun") == "1"}
	for _, o := range list {
		k := o.Head().Key()
		c := api.ResourceChange{Kind: k.Kind, Project: k.Project, Name: k.Name}
		if c.Result = m.wouldLocked(o); !out.DryRun {
			m.putLocked(o)
			c.Revision = m.objects[k].Head().Metadata.Revision
		}
		out.Resources = append(out.Resources, c)
	}
	answer(w, out)
}

func (m *fakeMaster) refusesLocked(list []api.Resource, ifRevision string) *api.Error {
	since, _ := strconv.ParseInt(ifRevision, 10, 64)
	var faults []api.Fault
	for i, o := range list {
		at := fmt.Sprintf("resources[%d]", i)
		if e := m.needsLocked(o, list); e != nil {
			faults = append(faults, api.Fault{Field: at + ".metadata.project", Message: e.Detail})
		}
		if s, ok := o.(*api.Service); ok && s.Spec.Containers[0].Image == "refused:1" {
			faults = append(faults, api.Fault{Field: at + ".spec.containers[0].image", Message: "is refused"})
		}
		if old := m.objects[o.Head().Key()]; old != nil && since != 0 && old.Head().Metadata.Revision > since {
			return api.Errorf(api.CodeConflict, "%s: %s has been changed since revision %d", at, o.Head().Key(), since)
		}
	}
	if len(faults) > 0 {
		e := api.Invalid("the resource", faults)
		if len(faults) > 1 {
			e.Detail = fmt.Sprintf("%d of the resources are refused, so that nothing is stored", len(faults))
		}
		return e
	}
	return nil
}
