package main

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"gearmesh.dev/api"
)

// hostwork serves what operators ask of a host: h1 is as it should be, h2 has a rule too few, and a foreign unit that stays.
func (m *fakeMaster) hostwork(mux *http.ServeMux) {
	m.pending(mux)
	m.meshKeys(mux)
	rules := api.Drift{Project: "shop", Pod: "web-aaaaa", What: "the pod's links", Reason: api.ReasonRulesDiffer, Diff: "+-A GEAR-LINKS -j DNAT\n"}
	foreign := api.Drift{Project: "shop", Pod: "web-aaaaa", What: "gear-shop-web-aaaaa.service", Reason: api.ReasonUnitForeign, Message: "move it away"}
	mux.HandleFunc("GET /v1/hosts/{name}/plan", func(w http.ResponseWriter, r *http.Request) {
		p := api.HostPlan{Host: api.Name(r.PathValue("name"))}
		if p.Host == "h2" {
			p.Tasks = []api.HostTask{{UID: "aaaaaaaaaaaaaaaa", Project: "shop", Pod: "web-aaaaa", Op: "start", Reason: api.ReasonUnitNotRunning}}
			p.Drift = []api.Drift{rules}
		}
		answer(w, p)
	})
	mux.HandleFunc("POST /v1/hosts/{name}/repair", func(w http.ResponseWriter, r *http.Request) {
		out := api.Repair{Host: api.Name(r.PathValue("name")), Pods: 2}
		if out.Host == "h2" {
			out.Mended, out.Left, out.Error = []api.Drift{rules}, []api.Drift{foreign}, "the file is not ours"
		}
		answer(w, out)
	})
	mux.HandleFunc("DELETE /v1/hosts/{name}/pods/{uid}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("uid") != "aaaaaaaaaaaaaaaa" {
			refuse(w, api.Errorf(api.CodeNotFound, "host %s has no pod with the uid %s", r.PathValue("name"), r.PathValue("uid")))
			return
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if h, ok := m.objects[api.Key{Kind: api.KindHost, Name: api.Name(r.PathValue("name"))}].(*api.Host); ok {
			h.Status.Reason, h.Status.Message = "", ""
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

// pending serves one host that waits for approval, h9.
func (m *fakeMaster) pending(mux *http.ServeMux) {
	p := api.PendingHost{Name: "h9", Address: netip.MustParseAddr("10.0.0.9"), From: netip.MustParseAddr("10.0.0.9"), Fingerprint: strings.Repeat("ab", 32),
		Asked: time.Now(), Until: time.Now().Add(time.Hour), State: api.PendingWaiting}
	mux.HandleFunc("GET /v1/pending", func(w http.ResponseWriter, _ *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		list := api.PendingList{Items: []api.PendingHost{}}
		if p.State != api.PendingRejected {
			list.Items = append(list.Items, p)
		}
		answer(w, list)
	})
	mux.HandleFunc("POST /v1/pending/{name}", func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		var v api.Verdict
		switch err := json.NewDecoder(r.Body).Decode(&v); {
		case err != nil:
			refuse(w, api.Errorf(api.CodeBadRequest, "%v", err))
		case r.PathValue("name") != "h9":
			refuse(w, api.Errorf(api.CodeNotFound, "no host waits under the name %s; gear host pending lists those that do", r.PathValue("name")))
		case v.Fingerprint != "" && v.Fingerprint != p.Fingerprint:
			refuse(w, api.Invalid("the verdict", []api.Fault{{Field: "fingerprint", Message: "the key of host h9 has another, not the one that you gave"}}))
		default:
			p.State = v.State
			answer(w, p)
		}
	})
}

// meshKeys serves the mesh's key, which is changed by a step at each question; h2 is lost.
func (m *fakeMaster) meshKeys(mux *http.ServeMux) {
	keys := api.MeshKeys{Seq: 1, Step: api.MeshSteady, Gone: []api.Name{"h2"}}
	mux.HandleFunc("GET /v1/mesh", func(w http.ResponseWriter, _ *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		switch keys.Step {
		case api.MeshInstall:
			keys.Step, keys.Waits = api.MeshUse, nil
		case api.MeshUse:
			keys.Step = api.MeshSteady
		}
		answer(w, keys)
	})
	mux.HandleFunc("POST /v1/mesh/rotate", func(w http.ResponseWriter, _ *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if keys.Step != api.MeshSteady {
			refuse(w, api.Errorf(api.CodeExists, "the key is being changed already"))
			return
		}
		keys.Step, keys.Waits = api.MeshInstall, []api.Name{"h1"}
		answer(w, keys)
	})
}
