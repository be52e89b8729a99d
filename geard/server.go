package geard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"gearmesh.dev/api"
)

// Role says what a caller of the agent is, from its certificate.
type Role int

// The roles of callers.
const (
	RoleNone   Role = iota
	RoleHost        // another host of the cluster
	RoleMaster      // the master
)

// Handler serves the agent's API (docs/http-api.md): endpoints to any host, logs, why and
// sessions in pods to the master. role reads the caller's role from the verified client certificate.
func (a *Agent) Handler(role func(*http.Request) Role) http.Handler {
	routes := []agentRoute{
		{"GET /v1/endpoints", RoleHost, a.serveEndpoints},
		{"GET /v1/pods/{uid}/logs", RoleMaster, a.serveLogs},
		{"GET /v1/logs", RoleMaster, a.serveLogs},
		{"GET /v1/pods/{uid}/why", RoleMaster, a.serveWhy},
		{"GET /v1/pods/{uid}/exec", RoleMaster, a.limited(a.serveExec)},
		{"GET /v1/pods/{uid}/forward", RoleMaster, a.limited(a.serveForward)},
		{"GET /v1/pods/{uid}/files", RoleMaster, a.limited(a.serveFiles)},
	}
	mux := http.NewServeMux()
	for _, r := range append(routes, a.operatorRoutes()...) {
		r.register(mux, role)
	}
	return mux
}

// agentRoute is one line of the agent's API.
type agentRoute struct {
	pattern string
	least   Role
	serve   func(http.ResponseWriter, *http.Request) error
}

func (r agentRoute) register(mux *http.ServeMux, role func(*http.Request) Role) {
	mux.HandleFunc(r.pattern, func(w http.ResponseWriter, req *http.Request) {
		if role(req) < r.least {
			writeError(w, api.Errorf(api.CodeForbidden, "this certificate may not use this route"))
			return
		}
		if err := r.serve(w, req); err != nil {
			writeError(w, err)
		}
	})
}

func (a *Agent) serveEndpoints(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, a.Endpoints())
}

// podOf finds the pod that a request names, on disk: it may be one that the master does not know.
func (a *Agent) podOf(r *http.Request) (held, error) {
	uid := api.UID(r.PathValue("uid"))
	if err := uid.Validate(); err != nil {
		return held{}, api.Errorf(api.CodeBadRequest, "%v", err)
	}
	h := a.loadPod(uid)
	if h.pod == nil {
		return held{}, api.Errorf(api.CodeNotFound, "host %s has no pod with the uid %s", a.cfg.Name, uid)
	}
	return h, nil
}

// Explainer shows what stands on the host of a pod.
type Explainer interface {
	// Explain gives the pod's unit files with drop-ins, and the rules in its namespace and of its
	// host ports, as they are, not as they were planned.
	Explain(ctx context.Context, pod api.Pod) (units, rules []api.TextFile, err error)
	// Refused counts the packets that a pod's egress has refused.
	Refused(ctx context.Context, uid api.UID) (uint64, error)
}

func (a *Agent) serveWhy(w http.ResponseWriter, r *http.Request) error {
	h, err := a.podOf(r)
	if err != nil {
		return err
	}
	units, rules, err := a.cfg.Explain.Explain(r.Context(), *h.pod)
	if err != nil {
		return err
	}
	links, err := a.linkFiles.load(h.pod.Metadata.UID)
	if err != nil {
		return err
	}
	drains, err := a.drains(h.pod.Metadata.UID)
	if err != nil {
		return err
	}
	states, err := a.cfg.Machine.LinkStates(r.Context(), h.pod.Metadata.UID, links, drains)
	if err != nil {
		return err
	}
	egress, err := a.explainEgress(r.Context(), h)
	if err != nil {
		return err
	}
	redactEnv(&h.pod.Spec.Template)
	return writeJSON(w, api.Why{Pod: *h.pod, Units: units, Rules: rules, Links: links, LinkStates: states, Egress: egress})
}

// redactEnv takes the values out of environments: an explanation is read by more people than a
// secret is for.
func redactEnv(t *api.PodTemplate) {
	hide := func(env map[string]string) {
		for k := range env {
			env[k] = "(hidden)"
		}
	}
	hide(t.Env)
	for _, c := range t.All() {
		hide(c.Env)
	}
}

// SocketHandler serves root on the host's own unix socket: the directory as a stream, for routers
// and other drivers, the host's report, and what operators do to the host when no master answers.
func (a *Agent) SocketHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/report", func(w http.ResponseWriter, _ *http.Request) { _ = writeJSON(w, a.Report()) }) // who asked has gone
	mux.HandleFunc("GET /v1/directory", a.streamDirectory)
	for _, r := range append(a.operatorRoutes(), agentRoute{"POST /v1/detach", RoleMaster, a.serveDetach}) {
		r.register(mux, func(*http.Request) Role { return RoleMaster })
	}
	return mux
}

// streamDirectory writes the directory as it is, then again after each change, one JSON value a line.
func (a *Agent) streamDirectory(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	out, flush := json.NewEncoder(w), http.NewResponseController(w)
	for {
		changed := a.Changed()
		if out.Encode(a.Directory()) != nil || flush.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		}
	}
}

func writeJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

func writeError(w http.ResponseWriter, err error) {
	var e *api.Error
	if !errors.As(err, &e) {
		e = api.Errorf(api.CodeInternal, "%v", err)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(e.Status)
	_ = json.NewEncoder(w).Encode(e) // who asked has gone
}
