package master

import (
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gearmesh.dev/api"
)

// desire follows a host's stream and keeps what it says.
type desire struct {
	*lines
	api.Desired
}

func (u *user) desire() *desire {
	u.c.t.Helper()
	return &desire{lines: u.stream("/v1/hosts/" + string(u.name) + "/desired")}
}

// until applies patches until a condition holds.
func (d *desire) until(what string, ok func(api.Desired) bool) {
	d.t.Helper()
	for !ok(d.Desired) {
		var p api.Patch
		if !d.next(&p) {
			d.t.Fatalf("the stream ended before %s", what)
		}
		d.Desired = d.Apply(p)
	}
}

// tell reports and wants a yes.
func (u *user) tell(r api.HostReport) {
	u.c.t.Helper()
	u.must("PUT", "/v1/hosts/"+string(u.name)+"/report", r, http.StatusOK)
}

// running says that a pod runs on the host and serves at a port.
func (u *user) running(p api.Pod, address string) api.HostReport {
	r := u.report(api.PodReport{UID: p.Metadata.UID, Project: p.Metadata.Project, Name: p.Metadata.Name,
		Status: api.PodStatus{Phase: api.PhaseRunning, Ready: true}})
	r.Endpoints.Seq = 1
	r.Endpoints.Endpoints = []api.Endpoint{{Project: p.Metadata.Project, Service: p.Spec.Service, Pod: p.Metadata.Name,
		Port: "http", Protocol: api.TCP, Address: netip.MustParseAddrPort(address), Ready: true}}
	return r
}

// TestFromServiceToEndpoint follows a service to its pod on a host, its endpoint in the directory
// of another host, and out again.
func TestFromServiceToEndpoint(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	h1 := c.join("h1", "10.0.0.1")
	h1.tell(h1.report())
	d1 := h1.desire()
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	svc := web("shop", "web")
	svc.Spec.Aliases = []api.Hostname{"shop.example.com"}
	ann.must("PUT", "/v1/projects/shop/services/web", svc, http.StatusCreated)
	d1.until("a pod", func(d api.Desired) bool { return len(d.Pods) == 1 })
	pod := d1.Pods[0]
	if pod.Spec.Term != d1.Term || d1.Term == 0 || pod.Spec.Host != "h1" || pod.Status.Phase != "" {
		t.Errorf("got %+v", pod.Spec)
	}
	h2 := c.join("h2", "10.0.0.2")
	d2 := h2.desire()
	h1.tell(h1.running(pod, "10.0.0.1:20000"))
	d2.until("the endpoint and the alias", func(d api.Desired) bool {
		return len(d.Directory.Backends("shop", "web", "")) == 1 && len(d.Directory.Aliases) == 1 && len(d.Directory.Hosts) == 2
	})
	if len(d2.Pods) != 0 {
		t.Errorf("h2 sees pods of h1: %+v", d2.Pods)
	}
	c.until("a ready service", func() bool {
		return read[api.Service](t, ann.must("GET", "/v1/projects/shop/services/web", nil, 200)).Status.Ready == 1
	})
	ann.must("DELETE", "/v1/projects/shop/services/web", nil, http.StatusOK)
	d1.until("the mark", func(d api.Desired) bool { return len(d.Pods) == 1 && d.Pods[0].Metadata.Deleting })
	d2.until("the end of the endpoint", func(d api.Desired) bool { return len(d.Directory.Backends("shop", "web", "http")) == 0 })
	gone := h1.report(api.PodReport{UID: pod.Metadata.UID, Project: "shop", Name: pod.Metadata.Name, Status: api.PodStatus{Phase: api.PhaseGone}})
	gone.Endpoints.Seq = 2
	h1.tell(gone)
	d1.until("the end of the pod", func(d api.Desired) bool { return len(d.Pods) == 0 && len(d.Directory.Services) == 0 })
	h1.tell(h1.report())
	c.until("nothing left", func() bool { return !strings.Contains(c.stored(), "web") })
}

func TestAHeartbeatWritesNothing(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	h1 := c.join("h1", "10.0.0.1")
	h1.tell(h1.report())
	d := h1.desire()
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	ann.must("PUT", "/v1/projects/shop/services/web", web("shop", "web"), http.StatusCreated)
	d.until("a pod", func(d api.Desired) bool { return len(d.Pods) == 1 })
	r := h1.running(d.Pods[0], "10.0.0.1:20000")
	h1.tell(r)
	_, before, err := c.store.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		h1.tell(r)
	}
	if _, after, err := c.store.List(t.Context(), ""); err != nil || after != before {
		t.Errorf("20 heartbeats wrote %d times, %v", after-before, err)
	}
	host := read[api.Host](t, ann.must("GET", "/v1/hosts/h1", nil, http.StatusOK))
	if host.Status.State != api.HostReady || host.Status.Seen.IsZero() || host.Status.Version != "v1" || host.Status.Pods != 1 {
		t.Errorf("got %+v", host.Status)
	}
}

// A host may lie about itself, but not about others.
func TestWhatAHostMayNotSay(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	h1 := c.join("h1", "10.0.0.1")
	h1.tell(h1.report())
	d := h1.desire()
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	ann.must("PUT", "/v1/projects/shop/services/web", web("shop", "web"), http.StatusCreated)
	d.until("a pod", func(d api.Desired) bool { return len(d.Pods) == 1 })
	pod := d.Pods[0]
	h2 := c.join("h2", "10.0.0.2")
	h2.tell(h2.running(pod, "10.0.0.2:20000")) // h1's pod
	h1.tell(h1.running(pod, "10.0.0.9:20000")) // an address that is not its own
	if c.m.cache.endpoints["h1"].Endpoints != nil || c.m.cache.endpoints["h2"].Endpoints != nil {
		t.Errorf("taken: %+v", c.m.cache.endpoints)
	}
	if host := read[api.Host](t, ann.must("GET", "/v1/hosts/h2", nil, 200)); host.Status.Reason != api.ReasonUnknownPod {
		t.Errorf("an unknown pod gives %+v", host.Status)
	}
	bad := h1.report()
	bad.Host = "h2"
	h1.must("PUT", "/v1/hosts/h1/report", bad, http.StatusUnprocessableEntity)
	bad = h1.running(pod, "10.0.0.1:20000")
	bad.Pods[0].Status.Phase = "flying"
	h1.must("PUT", "/v1/hosts/h1/report", bad, http.StatusUnprocessableEntity)
	bad.Pods[0].Status.Phase, bad.Pods[0].Status.Message = api.PhaseRunning, "a\x1b[31m\nb\u202e"
	h1.tell(bad)
	if got := c.m.cache.statuses[pod.Key()].Status.Message; got != "a[31m b" {
		t.Errorf("kept %q", got)
	}
}

func TestATokenWorksOnce(t *testing.T) {
	c := startCluster(t)
	token := read[api.JoinToken](t, c.ann().must("POST", "/v1/tokens", nil, http.StatusCreated))
	if secret := strings.Split(token.Token, ".")[1]; strings.Contains(c.stored(), secret) || strings.Contains(c.log.String(), secret) {
		t.Error("the secret is stored or logged")
	}
	_, csr := newRequest(t)
	req := api.JoinRequest{Token: token.Token, Name: "h1", Address: netip.MustParseAddr("10.0.0.1"), CSR: csr}
	results := make(chan int)
	for range 5 {
		go func() { results <- c.user("", nil).do("POST", "/v1/join", req).status }()
	}
	counts := map[int]int{}
	for range 5 {
		counts[<-results]++
	}
	if counts[http.StatusCreated] != 1 || counts[http.StatusUnauthorized] != 4 {
		t.Errorf("got %v", counts)
	}
	wrong := req
	wrong.Token = token.Token[:len(token.Token)-1]
	c.user("", nil).must("POST", "/v1/join", wrong, http.StatusUnauthorized)
}

func TestATakenNameIsNumbered(t *testing.T) {
	c := startCluster(t)
	long := strings.Repeat("a", 63)
	for _, names := range [][2]string{{"h1", "h1"}, {"h1", "h1-2"}, {"h1", "h1-3"}, {long, long}, {long, long[:61] + "-2"}} {
		if u := c.join(names[0], "10.0.0.1"); string(u.name) != names[1] {
			t.Errorf("%s became %s, want %s", names[0], u.name, names[1])
		}
	}
}

func TestRenewalAndWithdrawal(t *testing.T) {
	c := startCluster(t)
	h1 := c.join("h1", "10.0.0.1")
	for range 3 {
		key, csr := newRequest(t)
		got := read[renewed](t, h1.must("POST", "/v1/hosts/h1/certificate", api.CertificateRequest{CSR: csr}, http.StatusOK))
		next := c.user("", certificate(t, got.Certificate, key))
		next.name = "h1"
		h1.tell(h1.report()) // the old one is still good: the answer may have been lost
		next.tell(next.report())
		h1 = next
	}
	stream := h1.desire()
	c.ann().must("DELETE", "/v1/hosts/h1", nil, http.StatusOK)
	for p := (api.Patch{}); stream.next(&p); p = (api.Patch{}) {
		continue // until the stream ends: the host must see no more
	}
	c.until("withdrawal", func() bool {
		return h1.do("PUT", "/v1/hosts/h1/report", h1.report()).status == http.StatusUnauthorized
	})
	again := c.join("h1", "10.0.0.1")
	again.tell(again.report())
	h1.must("PUT", "/v1/hosts/h1/report", h1.report(), http.StatusUnauthorized)
	if left := c.stored(); strings.Count(left, "hostkey/") != 1 {
		t.Errorf("left:\n%s", left)
	}
}

func TestHostsAreNotMadeByHand(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	h := api.New(api.KindHost).(*api.Host)
	h.Metadata.Name = "h1"
	ann.must("POST", "/v1/hosts", h, http.StatusForbidden)
	ann.must("PUT", "/v1/hosts/h1", h, http.StatusNotFound)
	c.join("h1", "10.0.0.1")
	h.Metadata.Labels = map[string]string{"zone": "a"}
	h.Spec.Cordoned = true
	got := read[api.Host](t, ann.must("PUT", "/v1/hosts/h1", h, http.StatusOK))
	if !got.Spec.Cordoned || got.Spec.Address.String() != "10.0.0.1" || got.Metadata.Labels["zone"] != "a" {
		t.Errorf("got %+v", got)
	}
}

// A pod goes only where the host's operator allows what it needs; when one does, it goes there by itself.
func TestOffersOfHosts(t *testing.T) {
	c := startCluster(t)
	ann, h1 := c.ann(), c.join("h1", "10.0.0.1")
	r := h1.report()
	r.HostOffer = api.HostOffer{MaxPolicy: api.PolicyBaseline, VolumeClasses: []api.Name{"bulk"}}
	h1.tell(r)
	p, svc := project("shop"), web("shop", "web")
	p.Spec.Policy, svc.Spec.Containers[0].Privileged = api.PolicyPrivileged, true
	ann.must("PUT", "/v1/projects/shop", p, http.StatusCreated)
	ann.must("PUT", "/v1/projects/shop/services/web", svc, http.StatusCreated)
	get := func() api.ServiceStatus {
		return read[api.Service](t, ann.must("GET", "/v1/projects/shop/services/web", nil, 200)).Status
	}
	c.until("the reason", func() bool {
		st := get()
		return st.Reason == api.ReasonUnschedulable && strings.Contains(st.Message, "1 that do not allow policy privileged")
	})
	if h := read[api.Host](t, ann.must("GET", "/v1/hosts/h1", nil, 200)); h.Status.MaxPolicy != api.PolicyBaseline || len(h.Status.VolumeClasses) != 1 {
		t.Errorf("the host's status is %+v", h.Status)
	}
	d := h1.desire()
	r.MaxPolicy = api.PolicyPrivileged
	h1.tell(r)
	d.until("the pod", func(d api.Desired) bool { return len(d.Pods) == 1 })
	r.VolumeClasses = []api.Name{"No Name"}
	h1.must("PUT", "/v1/hosts/h1/report", r, http.StatusUnprocessableEntity)
}

// A host's IPv6 address is what its agent says; every host hears of it.
func TestIPv6OfHosts(t *testing.T) {
	c := startCluster(t)
	ann, h1, h2 := c.ann(), c.join("h1", "10.0.0.1"), c.join("h2", "10.0.0.2")
	h2.tell(h2.report())
	d := h2.desire()
	r := h1.report()
	for _, at := range []string{"2001:db8::1", "2001:db8::2"} {
		r.IPv6 = netip.MustParseAddr(at)
		r.AlsoIPv6 = []netip.Addr{r.IPv6.Next(), r.IPv6.Prev()}
		h1.tell(r)
		d.until("the host's IPv6 address "+at, func(d api.Desired) bool {
			return slices.ContainsFunc(d.Directory.Hosts, func(h api.HostEntry) bool {
				return h.Name == "h1" && reflect.DeepEqual(h.HostIPv6, r.HostIPv6)
			})
		})
		if h := read[api.Host](t, ann.must("GET", "/v1/hosts/h1", nil, 200)); !reflect.DeepEqual(h.Status.HostIPv6, r.HostIPv6) {
			t.Errorf("the host's status is %+v", h.Status)
		}
	}
	for _, bad := range []string{"fe80::1", "::1", "192.0.2.1", "::ffff:192.0.2.1", "fd67:6561:7200::a7f:2", "2001:db8::1%eth0"} {
		for _, said := range []api.HostIPv6{{IPv6: netip.MustParseAddr(bad)}, {AlsoIPv6: []netip.Addr{netip.MustParseAddr(bad)}}} {
			r.HostIPv6 = said
			h1.must("PUT", "/v1/hosts/h1/report", r, http.StatusUnprocessableEntity)
		}
	}
}
