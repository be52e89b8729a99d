package main

import (
	"net/http"

	"gearmesh.dev/api"
)

// hostwork serves what operators ask of a host: h1 is as it should be, h2 has a rule too few, and a foreign unit that stays.
func (m *fakeMaster) hostwork(mux *http.ServeMux) {
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
