package geard

import (
	"net/http"

	"gearmesh.dev/api"
)

// servePlan answers GET /v1/plan.
func (a *Agent) servePlan(w http.ResponseWriter, r *http.Request) error {
	p, err := a.Plan(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, p)
}

// serveRepair answers POST /v1/repair. It may take longer than a caller waits for the head of an answer, so that is
// sent at once, and what goes wrong is a part of the answer.
func (a *Agent) serveRepair(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	if err := http.NewResponseController(w).Flush(); err != nil {
		return nil //nolint:nilerr // the caller has gone
	}
	out, err := a.Repair(r.Context())
	if err != nil {
		out.Error = err.Error()
	}
	return writeJSON(w, out)
}

// serveForget answers DELETE /v1/pods/{uid}.
func (a *Agent) serveForget(w http.ResponseWriter, r *http.Request) error {
	uid := api.UID(r.PathValue("uid"))
	if err := uid.Validate(); err != nil {
		return api.Errorf(api.CodeBadRequest, "%v", err)
	}
	if err := a.Forget(r.Context(), uid); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// serveDetach answers POST /v1/detach.
func (a *Agent) serveDetach(w http.ResponseWriter, r *http.Request) error {
	if err := a.Detach(r.Context()); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// operatorRoutes are for whoever may act on the host: the master for its people, and root on the host itself.
func (a *Agent) operatorRoutes() []agentRoute {
	return []agentRoute{
		{"GET /v1/plan", RoleMaster, a.servePlan},
		{"POST /v1/repair", RoleMaster, a.serveRepair},
		{"DELETE /v1/pods/{uid}", RoleMaster, a.serveForget},
	}
}
