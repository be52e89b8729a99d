package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/pki"
)

// fakeMaster answers as docs/http-api.md says, from memory. Its services get pods at once, which
// become ready step by step; an image called "missing" cannot be pulled, one called "crash" ends again and again.
type fakeMaster struct {
	*httptest.Server
	authority []byte // in PEM
	mu        sync.Mutex
	revision  int64
	objects   map[api.Key]api.Resource
	past      map[api.Key][]api.ServiceRevision
	changed   chan struct{}
	done      chan struct{}
	events    []fakeEvent
	archive   []byte // as gear cp wrote it last
	work      sync.WaitGroup
}

type fakeEvent struct {
	Type     api.EventType `json:"type"`
	Revision int64         `json:"revision"`
	Object   any           `json:"object,omitempty"`
}

const fakeToken = "secret-token"

func newFakeMaster() *fakeMaster {
	m := &fakeMaster{objects: map[api.Key]api.Resource{}, past: map[api.Key][]api.ServiceRevision{}, changed: make(chan struct{}), done: make(chan struct{})}
	mux := http.NewServeMux()
	for _, k := range api.Kinds() {
		_, many := kindWords(k)
		base := "/v1/" + many
		mux.HandleFunc("GET "+base, m.list(k))
		if k.InProject() {
			base = "/v1/projects/{project}/" + many
			mux.HandleFunc("GET "+base, m.list(k))
		}
		mux.HandleFunc("POST "+base, m.put(k))
		mux.HandleFunc("GET "+base+"/{name}", m.get(k))
		mux.HandleFunc("PUT "+base+"/{name}", m.put(k))
		mux.HandleFunc("DELETE "+base+"/{name}", m.delete(k))
	}
	mux.HandleFunc("GET /v1/watch", m.watch)
	m.hostwork(mux)
	mux.HandleFunc("GET /v1/projects/{project}/services/{name}/history", m.history)
	mux.HandleFunc("POST /v1/plan", m.plan)
	mux.HandleFunc("POST /v1/apply", m.apply)
	mux.HandleFunc("GET /v1/rebalance", m.nextMoves)
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) {
		pod := api.Event{Kind: api.KindPod, Project: "shop", Name: "web-aaaaa", Service: "web", Host: "h1", Level: api.EventWarning, Reason: api.ReasonOOMKilled,
			Message: "over 24 MiB", Count: 3, First: time.Now(), Last: time.Now()}
		if q := r.URL.Query(); q.Get("kind") != string(api.KindHost) && (q.Get("name") == "" || q.Get("name") == "web-aaaaa") {
			answer(w, pod)
		}
	})
	mux.HandleFunc("GET /v1/projects/{project}/logs", m.logs)
	mux.HandleFunc("GET /v1/hosts/{name}/logs", func(w http.ResponseWriter, r *http.Request) {
		answer(w, api.LogLine{Time: time.Now(), Host: api.Name(r.PathValue("name")), Source: "systemd", Text: "of " + r.URL.Query().Get("unit")})
	})
	mux.HandleFunc("GET /v1/projects/{project}/pods/{name}/why", m.why)
	mux.HandleFunc("GET /v1/projects/{project}/pods/{name}/{session}", m.session)
	mux.HandleFunc("POST /v1/tokens", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, api.JoinToken{Token: "id.secret.pin", Expires: time.Now().Add(15 * time.Minute)})
	})
	mux.HandleFunc("GET /v1/version", func(w http.ResponseWriter, _ *http.Request) { answer(w, map[string]string{"version": "v1-fake"}) })
	ca, err := pki.NewCA(time.Now())
	if err != nil {
		panic(err)
	}
	m.authority = ca.PEM()
	m.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+fakeToken {
			refuse(w, api.Errorf(api.CodeUnauthorized, "the token is not known"))
			return
		}
		mux.ServeHTTP(w, r)
	}))
	m.TLS = pki.ServerConfig(ca.Master(nil, []netip.Addr{netip.MustParseAddr("127.0.0.1")}), ca.Cert)
	m.StartTLS()
	for i, name := range []api.Name{"h1", "h2"} {
		h := &api.Host{Header: api.Header{Kind: api.KindHost, Version: api.Version, Metadata: api.Metadata{Name: name, Labels: map[string]string{"zone": "a"}}}}
		h.Spec.Address = netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
		h.Status = api.HostStatus{State: api.HostReady, Seen: time.Now(), Version: "v1-fake", Capacity: api.Resources{CPU: 4000, Memory: 8 << 30}}
		m.store(h)
	}
	return m
}

// ca gives the certificate that clients trust.
func (m *fakeMaster) ca() string { return string(m.authority) }

func (m *fakeMaster) stop() {
	close(m.done)
	m.CloseClientConnections()
	m.Close()
	m.work.Wait()
}

func answer(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

func refuse(w http.ResponseWriter, e *api.Error) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(e.Status)
	answer(w, e)
}

// store keeps a resource and tells watchers. It copies, as JSON does.
func (m *fakeMaster) store(r api.Resource) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.storeLocked(r, api.EventPut)
}

func (m *fakeMaster) storeLocked(r api.Resource, what api.EventType) {
	m.revision++
	h := r.Head()
	h.Version, h.Metadata.Revision = api.Version, m.revision
	if h.Metadata.UID == "" {
		h.Metadata.UID = api.UID(fmt.Sprintf("aaaaaaaaaaaa%04d", m.revision))
		h.Metadata.Created = time.Now()
	}
	text, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	own := api.New(h.Kind)
	if err := json.Unmarshal(text, own); err != nil {
		panic(err)
	}
	m.objects[h.Key()] = own
	if what == api.EventDelete {
		delete(m.objects, h.Key())
	}
	m.events = append(m.events, fakeEvent{what, m.revision, json.RawMessage(text)})
	close(m.changed)
	m.changed = make(chan struct{})
}

func key(k api.Kind, r *http.Request) api.Key {
	return api.Key{Kind: k, Project: api.Name(r.PathValue("project")), Name: api.Name(r.PathValue("name"))}
}

func (m *fakeMaster) list(k api.Kind) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		project := api.Name(r.PathValue("project"))
		selector, err := api.ParseSelector(r.URL.Query().Get("selector"))
		if err != nil {
			refuse(w, api.Errorf(api.CodeBadRequest, "selector: %v", err))
			return
		}
		out := api.List[api.Resource]{Revision: m.revision, Items: []api.Resource{}}
		for key, o := range m.objects {
			if key.Kind == k && (project == "" || key.Project == project) && selector.Matches(o) {
				out.Items = append(out.Items, o)
			}
		}
		slices.SortFunc(out.Items, byProject)
		answer(w, out)
	}
}

func (m *fakeMaster) get(k api.Kind) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if o, ok := m.objects[key(k, r)]; ok {
			answer(w, o)
			return
		}
		refuse(w, api.Errorf(api.CodeNotFound, "there is no %s", key(k, r)))
	}
}

func (m *fakeMaster) put(k api.Kind) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		o := api.New(k)
		if err := json.NewDecoder(r.Body).Decode(o); err != nil {
			refuse(w, api.Errorf(api.CodeBadRequest, "%v", err))
			return
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if e := m.needsLocked(o, nil); e != nil {
			refuse(w, e)
			return
		}
		w.Header().Set("Gear-Result", string(m.putLocked(o)))
		answer(w, m.objects[o.Head().Key()])
	}
}

// needsLocked refuses what is in a project that is neither there nor among those that come with it.
func (m *fakeMaster) needsLocked(o api.Resource, with []api.Resource) *api.Error {
	h := o.Head()
	project := api.Key{Kind: api.KindProject, Name: h.Metadata.Project}
	_, ok := m.objects[project]
	if !h.Kind.InProject() || ok || slices.ContainsFunc(with, func(r api.Resource) bool { return r.Head().Key() == project }) {
		return nil
	}
	return api.Errorf(api.CodeNotFound, "there is no %s", project)
}

// wouldLocked says what storing a resource would do to it, and fills in what is there.
func (m *fakeMaster) wouldLocked(o api.Resource) api.ApplyResult {
	o.Default()
	h := o.Head()
	old, exists := m.objects[h.Key()]
	if !exists {
		return api.ResultCreated
	}
	h.Metadata.UID, h.Metadata.Created = old.Head().Metadata.UID, old.Head().Metadata.Created
	a, _ := json.Marshal(specOf(old))
	b, _ := json.Marshal(specOf(o))
	if string(a) == string(b) && maps.Equal(old.Head().Metadata.Labels, h.Metadata.Labels) {
		return api.ResultUnchanged
	}
	return api.ResultConfigured
}

func (m *fakeMaster) putLocked(o api.Resource) api.ApplyResult {
	result := m.wouldLocked(o)
	if result == api.ResultUnchanged {
		return result
	}
	if host, ok := o.(*api.Host); ok && host.Spec.Drain {
		host.Status.State, host.Status.Reason, host.Status.Message = api.HostReady, api.ReasonDrained, "it is drained: no pod is on it"
	}
	if s, ok := o.(*api.Service); ok {
		m.replaceLocked(s)
	}
	m.storeLocked(o, api.EventPut)
	if s, ok := o.(*api.Service); ok {
		m.deployLocked(s)
	}
	return result
}

func (m *fakeMaster) delete(k api.Kind) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		o, ok := m.objects[key(k, r)]
		if !ok {
			refuse(w, api.Errorf(api.CodeNotFound, "there is no %s", key(k, r)))
			return
		}
		for key, p := range m.objects {
			pod, isPod := p.(*api.Pod)
			if k == api.KindProject && key.Project == o.Head().Metadata.Name || k == api.KindService && isPod && serviceOf(pod) == o.Head().Key() {
				m.storeLocked(p, api.EventDelete)
			}
		}
		answer(w, o)
		m.storeLocked(o, api.EventDelete)
	}
}

// deployLocked makes a service's pods anew, and a life for each.
func (m *fakeMaster) deployLocked(s *api.Service) {
	for _, o := range m.objects {
		if p, ok := o.(*api.Pod); ok && serviceOf(p) == s.Key() {
			m.storeLocked(p, api.EventDelete)
		}
	}
	for i := range replicas(s) {
		p := &api.Pod{Header: api.Header{Kind: api.KindPod, Metadata: api.Metadata{Project: s.Metadata.Project,
			Name: api.Name(fmt.Sprintf("%s-%d%d", s.Metadata.Name, m.revision, i))}}}
		p.Spec = api.PodSpec{Service: s.Metadata.Name, Template: s.Spec.PodTemplate, Host: api.Name(fmt.Sprintf("h%d", 1+i%2)), Cause: api.ReasonScaleUp,
			Placement: &api.Decision{Host: api.Name(fmt.Sprintf("h%d", 1+i%2)), Score: 10, Reasons: []string{"spread +10"}, Rejected: map[api.Reason]int{api.ReasonCordoned: 1}}}
		p.Status.Phase = api.PhasePending
		m.storeLocked(p, api.EventPut)
		m.work.Go(func() { m.live(p) })
	}
}

// live leads a pod through its life.
func (m *fakeMaster) live(p *api.Pod) {
	for _, s := range m.life(p) {
		select {
		case <-m.done:
			return
		case <-time.After(30 * time.Millisecond):
		}
		m.mu.Lock()
		if _, there := m.objects[p.Key()]; there {
			p.Status = s
			m.storeLocked(p, api.EventPut)
			m.statusLocked(serviceOf(p))
		}
		m.mu.Unlock()
	}
}

func (m *fakeMaster) life(p *api.Pod) []api.PodStatus {
	c := api.ContainerStatus{Name: "main", Unit: fmt.Sprintf("gear-%s-%s.service", p.Metadata.Project, p.Metadata.Name)}
	starting := api.PodStatus{Phase: api.PhaseStarting, Reason: api.ReasonNotReady, Containers: []api.ContainerStatus{c}}
	switch image := p.Spec.Template.Containers[0].Image; {
	case strings.Contains(image, "missing"):
		return []api.PodStatus{{Phase: api.PhaseBackOff, Reason: api.ReasonImagePull, Message: "image " + image + ": not found", Containers: []api.ContainerStatus{c}}}
	case strings.Contains(image, "crash"):
		var out []api.PodStatus
		for i := range 6 {
			c.Restarts = i
			out = append(out, api.PodStatus{Phase: api.PhaseBackOff, Reason: api.ReasonExited, Message: "it ended with exit status 3", Containers: []api.ContainerStatus{c}})
		}
		return out
	}
	ready := starting
	ready.Phase, ready.Ready, ready.Reason = api.PhaseRunning, true, ""
	for _, port := range p.Spec.Template.Ports {
		ready.Ports = append(ready.Ports, api.HostPort{Name: port.Name, Protocol: port.Protocol, Port: port.Port, HostPort: 20001})
	}
	return []api.PodStatus{starting, ready}
}

// statusLocked keeps a service's status.
func (m *fakeMaster) statusLocked(k api.Key) {
	s, ok := m.objects[k].(*api.Service)
	if !ok {
		return
	}
	s.Status = api.ServiceStatus{}
	for _, o := range m.objects {
		p, isPod := o.(*api.Pod)
		if !isPod || serviceOf(p) != k {
			continue
		}
		s.Status.Pods++
		if p.Status.Ready {
			s.Status.Ready++
		} else {
			s.Status.Reason, s.Status.Message = p.Status.Reason, fmt.Sprintf("pod %s: %s", p.Metadata.Name, p.Status.Message)
		}
	}
	m.storeLocked(s, api.EventPut)
}

// watch streams what is there, sync, and changes.
func (m *fakeMaster) watch(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	wanted := func(o api.Resource) bool {
		_, many := kindWords(o.Head().Kind)
		return (q.Get("kinds") == "" || slices.Contains(strings.Split(q.Get("kinds"), ","), many)) &&
			(q.Get("project") == "" || q.Get("project") == string(o.Head().Metadata.Project))
	}
	m.mu.Lock()
	enc, sent := json.NewEncoder(w), len(m.events)
	for _, o := range m.objects {
		if wanted(o) {
			_ = enc.Encode(fakeEvent{api.EventPut, o.Head().Metadata.Revision, o})
		}
	}
	_ = enc.Encode(fakeEvent{Type: api.EventSync, Revision: m.revision})
	for {
		for ; sent < len(m.events); sent++ {
			e := m.events[sent]
			raw, _ := e.Object.(json.RawMessage)
			var h struct{ api.Header }
			_ = json.Unmarshal(raw, &h)
			o := api.New(h.Kind)
			_ = json.Unmarshal(raw, o)
			if wanted(o) {
				_ = enc.Encode(e)
			}
		}
		changed := m.changed
		m.mu.Unlock()
		w.(http.Flusher).Flush()
		select {
		case <-changed:
		case <-m.done:
			return
		case <-r.Context().Done():
			return
		}
		m.mu.Lock()
	}
}

// logs gives three lines of each pod.
func (m *fakeMaster) logs(w http.ResponseWriter, r *http.Request) {
	q, project := r.URL.Query(), api.Name(r.PathValue("project"))
	m.mu.Lock()
	var pods []*api.Pod
	for _, o := range m.objects {
		if p, ok := o.(*api.Pod); ok && p.Metadata.Project == project && (q.Get("service") == "" || q.Get("service") == string(p.Spec.Service)) &&
			(q.Get("pod") == "" || q.Get("pod") == string(p.Metadata.Name)) {
			pods = append(pods, p)
		}
	}
	m.mu.Unlock()
	slices.SortFunc(pods, func(a, b *api.Pod) int { return cmp.Compare(a.Metadata.Name, b.Metadata.Name) })
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	grep := regexp.MustCompile(q.Get("grep"))
	if gone := q.Get("pod"); len(pods) == 0 && gone == "web-gone" {
		pods = append(pods, &api.Pod{Header: api.Header{Metadata: api.Metadata{Name: "web-gone"}}})
	} else if len(pods) == 0 && gone != "" {
		refuse(w, api.Errorf(api.CodeNotFound, "there is no pod %s/%s", project, gone))
		return
	}
	for i, text := range []string{"starting", "GET / status=200", "evil \x1b[31m text"} {
		if !grep.MatchString(text) {
			continue
		}
		for j, p := range pods {
			answer(w, api.LogLine{Time: begin.Add(time.Duration(i*10+j) * time.Second), Host: p.Spec.Host, Project: project, Service: p.Spec.Service, Pod: p.Metadata.Name, Container: "main", Text: text})
		}
	}
}

func (m *fakeMaster) why(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.objects[key(api.KindPod, r)].(*api.Pod)
	if !ok {
		refuse(w, api.Errorf(api.CodeNotFound, "there is no %s", key(api.KindPod, r)))
		return
	}
	cache, until := netip.MustParseAddrPort("192.0.2.2:20001"), time.Now().Add(time.Minute)
	answer(w, api.Why{Pod: *p, Units: []api.TextFile{{Name: "gear-shop-web.service", Text: "[Service]\nExecStart=/usr/local/bin/gear-run run UID/main\n"}},
		Rules: []api.TextFile{{Name: "pod", Text: "*nat\n:GEAR-LINKS - [0:0]\n"}},
		Links: []api.LinkTarget{
			{Service: "db", Local: netip.MustParseAddr("127.1.0.1"), Port: 5432, Protocol: api.TCP, Localhost: true, Retarget: api.Drain, Reason: api.ReasonNoBackend},
			{Service: "mail", Project: "infra", Local: netip.MustParseAddr("127.1.0.2"), Port: 25, Protocol: api.TCP, Reason: api.ReasonNotOffered},
			{Service: "cache", Local: netip.MustParseAddr("127.1.0.3"), Port: 6379, Protocol: api.TCP, Backends: []netip.AddrPort{cache}, Weights: []int{300}}},
		LinkStates: []api.LinkState{{Applied: true, Refused: 7}, {Applied: true},
			{Listening: true, Backends: []api.LinkBackend{{Address: cache, Connections: 12, Open: 3}, {Address: netip.MustParseAddrPort("192.0.2.9:20009"), Open: 1, Gone: true, Until: &until}}}}})
}
