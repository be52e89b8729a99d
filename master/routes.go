package master

import (
	"context"
	"net/http"
	"reflect"
	"strings"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
)

// routes is the whole API. What is not here is not served, and who is not named is refused.
func (m *Master) routes() []route {
	routes := []route{
		{id: "getHealth", method: "GET", path: "/healthz", who: forAnybody, summary: "The process lives", handle: m.healthz},
		{id: "getReadiness", method: "GET", path: "/readyz", prompt: true, who: forAnybody, summary: "The store is read and answers", handle: m.readyz},
		{id: "getDescription", method: "GET", path: "/openapi.json", who: forAnybody, summary: "This description", handle: m.openapi},
		{id: "getVersion", method: "GET", path: "/v1/version", who: forAnybody, summary: "The master's version",
			answer: reflect.TypeFor[version](), handle: m.version},
		{id: "join", method: "POST", path: "/v1/join", prompt: true, who: forAnybody, audit: true, summary: "Join the cluster with a token",
			body: reflect.TypeFor[api.JoinRequest](), limit: 64 << 10, status: http.StatusCreated,
			answer: reflect.TypeFor[api.Identity](), also: map[int]string{http.StatusAccepted: "A person has to approve it: ask again"}, handle: m.join},
		{id: "createToken", method: "POST", path: "/v1/tokens", prompt: true, who: forPeople, audit: true, summary: "Make a token that lets one host join",
			body: reflect.TypeFor[api.TokenRequest](), status: http.StatusCreated, answer: reflect.TypeFor[api.JoinToken](), handle: m.createToken},
		{id: "watch", method: "GET", path: "/v1/watch", who: forPeople, summary: "Follow changes", stream: true,
			answer: reflect.TypeFor[watchLine](), handle: m.watch, query: []queryParam{
				{"kinds", "some of projects,hosts,secrets,services,aliases,pods; all when left out"},
				{"project", "only of this project"}, {"selector", selectorDoc},
				{"revision", "changes after this revision; when left out: what is there, a sync event, then changes"}}},
		{id: "listEvents", method: "GET", path: "/v1/events", who: forPeople, summary: "What happened, the oldest first", stream: true,
			answer: reflect.TypeFor[api.Event](), handle: m.listEvents, query: []queryParam{
				{"project", "only of this project"}, {"kind", "only of resources of this kind"}, {"name", "only of resources of this name"},
				{"service", "only of this service and its pods"}, {"since", "only what happened not longer ago, such as 10m"},
				{"follow", "1: wait for more; an event that happens again comes again, with its new count"}}},
		{id: "getLogs", method: "GET", path: "/v1/projects/{project}/logs", who: forPeople, summary: "What containers wrote, merged by time", stream: true,
			answer: reflect.TypeFor[api.LogLine](), handle: m.logs, query: []queryParam{
				{"service", "only of this service"}, {"pod", "only of this pod"}, {"follow", "1: wait for more"},
				{"tail", "at most this many lines of each container from before now"}, {"since", "only lines not older than this, such as 10m"},
				{"container", "only of this container"}, {"grep", "only lines that match a regular expression (RE2); tail counts those"},
				{"previous", "1: of the run of each container before its newest"}, {"system", "1: of a pod, also what systemd and the kernel say of it"},
				{"gone", "1: also of pods that are no more; every host is asked"}}},
		{id: "getHostLogs", method: "GET", path: "/v1/hosts/{name}/logs", who: forPeople, summary: "The journal of a host", stream: true,
			answer: reflect.TypeFor[api.LogLine](), handle: m.hostLogs, query: []queryParam{{"unit", "only of this systemd unit"}, {"follow", "1: wait for more"},
				{"tail", "at most this many lines from before now"}, {"since", "only lines not older than this, such as 10m"},
				{"grep", "only lines that match a regular expression (RE2)"}}},
		{id: "explainPod", method: "GET", path: "/v1/projects/{project}/pods/{name}/why", who: forPeople, summary: "Everything that explains a pod",
			answer: reflect.TypeFor[api.Why](), handle: m.why},
		{id: "followDesired", method: "GET", path: "/v1/hosts/{name}/desired", who: forHost, summary: "What the host should do, as a stream of patches", stream: true,
			answer: reflect.TypeFor[api.Patch](), handle: m.desired},
		{id: "putReport", method: "PUT", path: "/v1/hosts/{name}/report", prompt: true, who: forHost, summary: "The state of the host; renews its lease, and those of the singletons that the answer names",
			body: reflect.TypeFor[api.HostReport](), limit: maxReport, answer: reflect.TypeFor[api.ReportAnswer](), handle: m.report},
		{id: "putHeartbeat", method: "PUT", path: "/v1/hosts/{name}/heartbeat/{mark}", who: forHost, summary: "What the host reported last still holds; the same as sending it again; 409 when the report must be sent whole",
			answer: reflect.TypeFor[api.ReportAnswer](), also: map[int]string{http.StatusNoContent: "Nothing new to say"}, handle: m.heartbeat},
		{id: "renewCertificate", method: "POST", path: "/v1/hosts/{name}/certificate", prompt: true, who: forHost, audit: true, summary: "A fresh certificate",
			body: reflect.TypeFor[api.CertificateRequest](), limit: 64 << 10, answer: reflect.TypeFor[renewed](), handle: m.renew},
	}
	routes = append(routes, m.sessionRoutes()...)
	routes = append(routes, m.masterRoutes()...)
	routes = append(routes, m.pendingRoutes()...)
	routes = append(routes, m.applyRoutes()...)
	routes = append(routes, m.meshRoutes()...)
	routes = append(routes, m.historyRoutes()...)
	routes = append(routes, resourceRoutes[api.Project](m, api.KindProject)...)
	routes = append(routes, resourceRoutes[api.Host](m, api.KindHost)...)
	routes = append(routes, resourceRoutes[api.Service](m, api.KindService)...)
	routes = append(routes, resourceRoutes[api.Secret](m, api.KindSecret)...)
	routes = append(routes, resourceRoutes[api.Alias](m, api.KindAlias)...)
	routes = append(routes, resourceRoutes[api.Pod](m, api.KindPod)...)
	return append(routes, m.hostworkRoutes()...)
}

// resourceRoutes gives the routes of one kind.
func resourceRoutes[T any](m *Master, kind api.Kind) []route {
	one, many := reflect.TypeFor[T](), reflect.TypeFor[api.List[T]]()
	word, lists := kindWord(kind), plural(kind)
	list, create, replace := m.list(kind), m.put(kind), m.put(kind)
	switch kind {
	case api.KindPod:
		create = notByPeople("pods are made by the master, from services; change or create the service")
		replace = create
	case api.KindHost:
		create = notByPeople("a host comes by joining: gear token create, then gear join on the host")
	}
	dry := queryParam{dryRun, dryRunDoc}
	removal := []queryParam{{"revision", "only if the stored revision is this"}, dry}
	if kind == api.KindHost {
		removal = append(removal, queryParam{removeNow, "1: at once, as of a host that was broken into: its certificates are refused from now on, and its pods are replaced without waiting for it"})
	}
	fresh := []queryParam{{"fresh", "1: as of now, over all masters; needs a quorum. Left out: as this master knows it"}}
	base := "/v1/" + lists
	kinds := strings.ToUpper(lists[:1]) + lists[1:]
	var routes []route
	if kind.InProject() {
		routes = append(routes, route{id: "listAll" + kinds, method: "GET", path: base, who: forPeople,
			summary: "List the " + lists + " of all projects", answer: many, query: append(listQuery(), fresh...), handle: list})
		base = "/v1/projects/{project}/" + lists
	}
	item := base + "/{name}"
	return append(routes,
		route{id: "list" + kinds, method: "GET", path: base, who: forPeople, summary: "List " + lists, answer: many, query: append(listQuery(), fresh...), handle: list},
		route{id: "create" + string(kind), method: "POST", path: base, prompt: true, who: forPeople, audit: true, summary: "Create a " + word,
			body: one, status: http.StatusCreated, answer: one, once: true, query: []queryParam{dry}, handle: m.once(create)},
		route{id: "get" + string(kind), method: "GET", path: item, who: forPeople, summary: "One " + word + ", with its status", answer: one, query: fresh, handle: m.one(kind)},
		route{id: "replace" + string(kind), method: "PUT", path: item, prompt: true, who: forPeople, audit: true, summary: "Create or replace a " + word,
			body: one, answer: one, once: true, query: []queryParam{dry}, handle: m.once(replace)},
		route{id: "delete" + string(kind), method: "DELETE", path: item, prompt: true, who: forPeople, audit: true, summary: "Delete a " + word, answer: one,
			once: true, query: removal, handle: m.once(m.remove(kind))})
}

// watchLine is event for OpenAPI, where the object's shape depends on its kind.
type watchLine struct {
	Type     api.EventType  `json:"type" enum:"put,delete,sync,error"`
	Revision int64          `json:"revision"`
	Object   map[string]any `json:"object,omitempty" doc:"Any resource; its kind says which"`
	Error    *api.Error     `json:"error,omitempty" doc:"Only on the last line of a watch that the master ends"`
}

// version is the answer of GET /v1/version.
type version struct {
	Version string `json:"version"`
}

func (m *Master) version(c *call) error { return c.answer(http.StatusOK, version{m.cfg.Version}) }

func (m *Master) healthz(c *call) error {
	_, _ = c.w.Write([]byte("ok\n"))
	return nil
}

// readyz asks the store itself: without a quorum nothing can be written.
func (m *Master) readyz(c *call) error {
	if err := m.ready(c.Context()); err != nil {
		return err
	}
	if m.cluster != nil && !m.cluster.Voter() {
		return api.Errorf(api.CodeUnavailable, "StoreCatchingUp: this master has joined and is still reading what the others hold")
	}
	if _, err := m.store.Leader(c.Context()); err != nil {
		return api.Errorf(api.CodeUnavailable, "StoreSilent: the store does not answer; of its masters more than half must run and reach each other")
	}
	if problems := m.storeProblems(c.Context()); len(problems) > 0 {
		return api.Errorf(api.CodeUnavailable, "%s", strings.Join(problems, "; "))
	}
	return m.healthz(c)
}

// storeProblems gives what is wrong with the store, as REASON: message.
func (m *Master) storeProblems(ctx context.Context) []string {
	checker, ok := m.store.(store.Checker)
	if !ok {
		return nil
	}
	problems, err := checker.Problems(ctx)
	if err != nil {
		return []string{"StoreSilent: " + err.Error()}
	}
	var out []string
	for _, p := range problems {
		out = append(out, p.Reason+": "+p.Message)
	}
	return out
}

func (m *Master) openapi(c *call) error {
	c.w.Header().Set("Content-Type", "application/openapi+json")
	_, _ = c.w.Write(m.spec)
	return nil
}
