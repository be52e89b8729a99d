package master

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"time"

	"gearmesh.dev/api"
)

// hostworkRoutes are what operators ask of one host's agent, through the master.
func (m *Master) hostworkRoutes() []route {
	return []route{
		{id: "planHost", method: "GET", path: "/v1/hosts/{name}/plan", who: forPeople, summary: "What the host's agent would do now; changes nothing",
			answer: reflect.TypeFor[api.HostPlan](), handle: m.hostPlan},
		{id: "repairHost", method: "POST", path: "/v1/hosts/{name}/repair", who: forPeople, audit: true, summary: "Make the host's agent assert everything anew",
			answer: reflect.TypeFor[api.Repair](), handle: m.hostRepair},
		{id: "forgetPod", method: "DELETE", path: "/v1/hosts/{name}/pods/{uid}", who: forPeople, audit: true, summary: "Remove a pod from a host that the master does not know",
			status: http.StatusNoContent, handle: m.forgetPod},
	}
}

// maxHostwork bounds an agent's answer: a drift names every line of rules that differs.
const maxHostwork = 4 << 20

// hostworkTime bounds how long an agent may take, less than this server lets an answer take.
const hostworkTime = writeTime - 5*time.Second

func (m *Master) hostPlan(c *call) error {
	var p api.HostPlan
	if err := m.hostwork(c, "/v1/plan", &p); err != nil {
		return err
	}
	p.Host = c.name("name")
	cleanDrift(p.Drift)
	return c.answer(http.StatusOK, p)
}

func (m *Master) hostRepair(c *call) error {
	c.object = "host/" + string(c.name("name"))
	var r api.Repair
	if err := m.hostwork(c, "/v1/repair", &r); err != nil {
		return err
	}
	r.Host, r.Error = c.name("name"), plain(r.Error)
	cleanDrift(r.Mended)
	cleanDrift(r.Left)
	return c.answer(http.StatusOK, r)
}

func (m *Master) forgetPod(c *call) error {
	uid := api.UID(c.PathValue("uid"))
	c.object = fmt.Sprintf("host/%s pod %s", c.name("name"), uid)
	if err := uid.Validate(); err != nil {
		return api.Invalid("the path", []api.Fault{{Field: "uid", Message: err.Error()}})
	}
	if key, ok := m.podWith(c.name("name"), uid); ok {
		return api.Errorf(api.CodeConflict, "that is %s, which the master knows; delete its service instead", key)
	}
	if err := m.hostwork(c, "/v1/pods/"+string(uid), nil); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// podWith finds a pod that is assigned to a host by its uid.
func (m *Master) podWith(host api.Name, uid api.UID) (api.Key, bool) {
	m.cache.mu.RLock()
	defer m.cache.mu.RUnlock()
	for key, p := range m.cache.byHost[host] {
		if p.Metadata.UID == uid {
			return key, true
		}
	}
	return api.Key{}, false
}

// hostwork passes a request on to the agent of the host that the path names, and reads its answer into out.
func (m *Master) hostwork(c *call, path string, out any) error {
	host := c.name("name")
	if key := (api.Key{Kind: api.KindHost, Name: host}); !m.cache.has(key) {
		return notFound(key)
	}
	ctx, cancel := context.WithTimeout(c.Context(), hostworkTime)
	defer cancel()
	body, err := m.tellAgent(ctx, c.Method, host, path, nil)
	var refused agentRefusal
	switch {
	case errors.As(err, &refused) && refused.problem.Code != api.CodeInternal:
		return api.Errorf(refused.problem.Code, "%s", plain(refused.problem.Detail))
	case err != nil:
		return api.Errorf(api.CodeUnavailable, "%s; on the host itself, gear host repair --local needs no master", plain(err.Error()))
	}
	defer body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(body, maxHostwork)).Decode(out); err != nil {
		return api.Errorf(api.CodeUnavailable, "the answer of host %q cannot be read: %s", host, plain(err.Error()))
	}
	return nil
}

// cleanDrift makes what a host says harmless to print.
func cleanDrift(list []api.Drift) {
	for i := range list {
		d := &list[i]
		d.What, d.Message, d.Reason = plain(d.What), plain(d.Message), api.Reason(plain(string(d.Reason)))
	}
}
