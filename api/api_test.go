package api

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// hostile are texts that end a line, a field or an argument in some sink, or stand for more than they say.
var hostile = []string{"a\nb", "a\rb", "a\x00b", `a\`, "%n", "$(x)", "`x`", "a b", "..", "a/b", "ä", "\xff", "A", "-a", "a-", "a_b", "a.b",
	strings.Repeat("a", 64), ""}

func TestNameRefusesHostileText(t *testing.T) {
	for _, s := range hostile {
		if err := Name(s).Validate(); err == nil {
			t.Errorf("%q was taken for a name", s)
		}
	}
	for _, s := range []string{"a", "web", "my-shop", "0", strings.Repeat("a", 63)} {
		if err := Name(s).Validate(); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// service is a valid one to spoil.
func service() *Service {
	s := New(KindService).(*Service)
	s.Metadata = Metadata{Name: "web", Project: "shop"}
	s.Spec.Containers = []Container{{Image: "registry.example.com/shop/web:1", Mounts: []Mount{{Volume: "data", Path: "/data"}}}}
	s.Spec.Volumes = []Volume{{Name: "data"}}
	s.Spec.Ports = []Port{{Port: 80}}
	s.Spec.Links = []Link{{Service: "db", LocalPort: 5432}}
	s.Spec.Aliases = []Hostname{"shop.example.com"}
	s.Default()
	return s
}

func TestValidateNamesTheField(t *testing.T) {
	if f := service().Validate(); f != nil {
		t.Fatalf("the service to spoil has faults: %v", f)
	}
	for name, tc := range map[string]struct {
		field string
		spoil func(*Service)
	}{
		"name":            {"metadata.name", func(s *Service) { s.Metadata.Name = "a\nb" }},
		"no project":      {"metadata.project", func(s *Service) { s.Metadata.Project = "" }},
		"version":         {"version", func(s *Service) { s.Version = "v9" }},
		"replicas":        {"spec.replicas", func(s *Service) { *s.Spec.Replicas = -1 }},
		"global replicas": {"spec.replicas", func(s *Service) { s.Spec.Global = true }},
		"global packed":   {"spec.placement", func(s *Service) { s.Spec.Global, s.Spec.Replicas, s.Spec.Placement.Pack = true, nil, true }},
		"priority":        {"spec.placement.priority", func(s *Service) { s.Spec.Placement.Priority = 1001 }},
		"min ready":       {"spec.minReady", func(s *Service) { s.Spec.MinReady = -1 }},
		"max skew":        {"spec.placement.maxSkew", func(s *Service) { s.Spec.Placement.MaxSkew = -1 }},
		"max per host":    {"spec.placement.maxPerHost", func(s *Service) { s.Spec.Placement.MaxPerHost = 10001 }},
		"rebalance":       {"spec.placement.rebalance", func(s *Service) { s.Spec.Placement.Rebalance, s.Spec.Singleton = true, true }},
		"near nobody":     {"spec.placement.near[0].service", func(s *Service) { s.Spec.Placement.Near = []Neighbour{{Within: "zone"}} }},
		"near within":     {"spec.placement.near[0].within", func(s *Service) { s.Spec.Placement.Near = []Neighbour{{Service: "db", Within: "a\x00b"}} }},
		"apart twice": {"spec.placement.apart[1]", func(s *Service) {
			s.Spec.Placement.Apart = []Neighbour{{Service: "db"}, {Service: "db", Within: "host"}}
		}},
		"near and apart": {"spec.placement.near[0]", func(s *Service) {
			n := []Neighbour{{Service: "db"}}
			s.Spec.Placement.Near, s.Spec.Placement.Apart = n, n
		}},
		"no containers":    {"spec.containers", func(s *Service) { s.Spec.Containers = nil }},
		"image":            {"spec.containers[0].image", func(s *Service) { s.Spec.Containers[0].Image = "a\nb" }},
		"image dots":       {"spec.containers[0].image", func(s *Service) { s.Spec.Containers[0].Image = "../a" }},
		"image option":     {"spec.containers[0].image", func(s *Service) { s.Spec.Containers[0].Image = "--privileged" }},
		"env name":         {"spec.containers[0].env", func(s *Service) { s.Spec.Containers[0].Env = map[string]string{"A=B": "x"} }},
		"env newline":      {"spec.env.A", func(s *Service) { s.Spec.Env = map[string]string{"A": "x\ny"} }},
		"env NUL":          {"spec.env.A", func(s *Service) { s.Spec.Env = map[string]string{"A": "x\x00y"} }},
		"mount of nothing": {"spec.containers[0].mounts[0].volume", func(s *Service) { s.Spec.Volumes = nil }},
		"mount path":       {"spec.containers[0].mounts[0].path", func(s *Service) { s.Spec.Containers[0].Mounts[0].Path = "/a/../b" }},
		"mount option":     {"spec.containers[0].mounts[0].path", func(s *Service) { s.Spec.Containers[0].Mounts[0].Path = "/a:rw" }},
		"two containers":   {"spec.containers[1]", func(s *Service) { s.Spec.Containers = append(s.Spec.Containers, s.Spec.Containers[0]) }},
		"init net":         {"spec.initContainers[0]", func(s *Service) { s.Spec.InitContainers = []Container{{Name: "net", Image: "a"}} }},
		"init called main": {"spec.containers[0]", func(s *Service) { s.Spec.InitContainers = []Container{{Name: "main", Image: "a"}} }},
		"init with a check": {"spec.initContainers[0]", func(s *Service) {
			s.Spec.InitContainers = []Container{{Name: "a", Image: "a", Live: &Check{Command: []string{"x"}}}}
		}},
		"native image": {"spec.containers[0].image", func(s *Service) { s.Spec.Containers[0].Native = &Native{Command: []string{"/bin/x"}} }},
		"native path": {"spec.containers[0].native.command[0]", func(s *Service) {
			s.Spec.Containers[0] = Container{Name: "main", Native: &Native{Command: []string{"x"}}}
		}},
		"native user": {"spec.containers[0].native.user", func(s *Service) {
			s.Spec.Containers[0] = Container{Name: "main", Native: &Native{Command: []string{"/x"}, User: "a b"}}
		}},
		"native caps": {"spec.containers[0]", func(s *Service) {
			c := Container{Name: "main", Native: &Native{Command: []string{"/x"}}}
			c.Privileged = true
			s.Spec.Containers[0] = c
		}},
		"after nobody":      {"spec.containers[0].after[0]", func(s *Service) { s.Spec.Containers[0].After = []Name{"x"} }},
		"after itself":      {"spec.containers", func(s *Service) { s.Spec.Containers[0].After = []Name{"main"} }},
		"live with nothing": {"spec.containers[0].live", func(s *Service) { s.Spec.Containers[0].Live = &Check{} }},
		"grpc port":         {"spec.containers[0].startup.grpc.port", func(s *Service) { s.Spec.Containers[0].Startup = &Check{GRPC: &GRPCCheck{}} }},
		"container net":     {"spec.containers[0]", func(s *Service) { s.Spec.Containers[0].Name = "net" }},
		"port 0":            {"spec.ports[0].port", func(s *Service) { s.Spec.Ports[0].Port = 0 }},
		"port twice":        {"spec.ports[1]", func(s *Service) { s.Spec.Ports = append(s.Spec.Ports, Port{Name: "b", Port: 80, Protocol: TCP}) }},
		"link without port": {"spec.links[0].localPort", func(s *Service) { s.Spec.Links[0].LocalPort = 0 }},
		"link twice":        {"spec.links[1]", func(s *Service) { s.Spec.Links = append(s.Spec.Links, s.Spec.Links[0]) }},
		"alias":             {"spec.aliases[0]", func(s *Service) { s.Spec.Aliases[0] = "a b" }},
		"two checks":        {"spec.containers[0].ready", func(s *Service) { s.Spec.Containers[0].Ready = &Check{TCP: &TCPCheck{1}, Command: []string{"x"}} }},
		"check path":        {"spec.containers[0].ready.http.path", func(s *Service) { s.Spec.Containers[0].Ready = &Check{HTTP: &HTTPCheck{1, "/a\nb"}} }},
		"requirement":       {"spec.placement.require[0]", func(s *Service) { s.Spec.Placement.Require = []Requirement{{Label: "zone"}} }},
		"stop signal":       {"spec.containers[0].stopSignal", func(s *Service) { s.Spec.Containers[0].StopSignal = "9" }},
	} {
		s := service()
		tc.spoil(s)
		faults := s.Validate()
		if len(faults) == 0 || faults[0].Field != tc.field || faults[0].Message == "" {
			t.Errorf("%s: got %v, want a fault of %s", name, faults, tc.field)
		}
	}
}

func TestValidateRefusesHostileTextEverywhere(t *testing.T) {
	for _, bad := range []string{"a\nb", "a\rb", "a\x00b", "\xff"} {
		for name, spoil := range map[string]func(*Service){
			"image":   func(s *Service) { s.Spec.Containers[0].Image = bad },
			"env":     func(s *Service) { s.Spec.Env = map[string]string{"A": bad} },
			"envName": func(s *Service) { s.Spec.Env = map[string]string{bad: "x"} },
			"path":    func(s *Service) { s.Spec.Containers[0].Mounts[0].Path = "/" + bad },
			"workDir": func(s *Service) { s.Spec.Containers[0].WorkDir = "/" + bad },
			"user":    func(s *Service) { s.Spec.Containers[0].User = bad },
			"alias":   func(s *Service) { s.Spec.Aliases[0] = Hostname(bad) },
			"label":   func(s *Service) { s.Metadata.Labels = map[string]string{bad: "x"} },
			"value":   func(s *Service) { s.Metadata.Labels = map[string]string{"a": bad} },
			"require": func(s *Service) { s.Spec.Placement.Require = []Requirement{{Label: "a", In: []string{bad}}} },
			"link":    func(s *Service) { s.Spec.Links[0].Service = Name(bad) },
		} {
			s := service()
			spoil(s)
			if len(s.Validate()) == 0 {
				t.Errorf("%q passed as %s", bad, name)
			}
		}
	}
}

func TestDecodeIsStrict(t *testing.T) {
	for name, tc := range map[string]struct{ text, says string }{
		"unknown":    {`{"kind":"Service","spec":{"replica":1}}`, `spec.replica: is not a field; did you mean "replicas"?`},
		"twice":      {`{"kind":"Service","kind":"Pod"}`, "kind: is given twice"},
		"case":       {`{"kind":"Service","Spec":{}}`, `Spec: is not a field; did you mean "spec"?`},
		"wrong type": {`{"kind":"Service","spec":{"replicas":"three"}}`, "spec.replicas: a string is given where a number is needed"},
		"port type":  {`{"kind":"Service","spec":{"ports":[{"port":1},{"port":"x"}]}}`, "spec.ports[1].port: a string is given where a number is needed"},
		"port range": {`{"kind":"Service","spec":{"ports":[{"port":70000}]}}`, "spec.ports[0].port: 70000 does not fit; 0 to 65535 are allowed"},
		"fraction":   {`{"kind":"Service","spec":{"replicas":1.5}}`, "spec.replicas: 1.5 is no whole number"},
		"list":       {`{"kind":"Service","spec":{"containers":{"image":"x"}}}`, "spec.containers: an object is given where a list is needed"},
		"number cpu": {`{"kind":"Service","spec":{"containers":[{"resources":{"cpu":2}}]}}`, "spec.containers[0].resources.cpu: a number is given where a string is needed"},
		"bare word":  {`{"kind":"Service","spec":{"links":["db"]}}`, "spec.links[0]: a string is given where an object is needed; it has balance, localPort, "},
		"a command":  {`{"kind":"Service","spec":{"containers":[{"command":"npm start"}]}}`, `spec.containers[0].command: a string is given where a list is needed; write it as ["npm", "start"]`},
		"no space":   {`{"kind":"Service","spec":{"containers":["image:web"]}}`, "an object is needed; is the space after the colon missing?"},
		"env list":   {`{"kind":"Service","spec":{"containers":[{"env":[{"name":"A"}]}]}}`, "env: a list is given where an object is needed; write it as NAME: VALUE"},
		"env number": {`{"kind":"Service","spec":{"containers":[{"env":{"A":1}}]}}`, "env.A: a number is given where a string is needed; put it in quotes"},
		"quoted":     {`{"kind":"Service","spec":{"replicas":"3"}}`, "spec.replicas: a string is given where a number is needed; leave the quotes away"},
		"seconds":    {`{"kind":"Service","spec":{"containers":[{"stopGrace":5}]}}`, `spec.containers[0].stopGrace: a number is given where a string is needed; "5" is no duration`},
		"familiar":   {`{"kind":"Service","spec":{"containers":[{"readinessProbe":{}}]}}`, `readinessProbe: is not a field; here it is called "ready"`},
		"too high":   {`{"kind":"Service","containers":[]}`, `containers: is not a field; it belongs under "spec"`},
		"beside":     {`{"kind":"Service","spec":{"resources":{}}}`, `spec.resources: is not a field; it belongs under "containers"`},
		"all fields": {`{"kind":"Service","spec":{"ports":[{"hostPort":80}]}}`, `spec.ports[0].hostPort: is not a field; there are name, port, protocol, public`},
		"duration":   {`{"kind":"Service","spec":{"containers":[{"stopGrace":"soon"}]}}`, "spec.containers[0].stopGrace: \"soon\" is no duration"},
		"in a list":  {`{"kind":"Service","spec":{"ports":[{"port":1},{"prt":2}]}}`, "spec.ports[1].prt: is not a field"},
		"trailing":   {`{"kind":"Service"}{"kind":"Pod"}`, "more after the end"},
		"cut off":    {`{"kind":"Service"`, "ends too early"},
		"no JSON":    {`kind: Service`, "no JSON"},
		"deep":       {`{"metadata":{"labels":` + strings.Repeat(`{"a":`, 70) + `1` + strings.Repeat("}", 72), "nests deeper"},
		"empty":      {``, "ends too early"},
	} {
		var into any = New(KindService)
		if name == "deep" {
			into = new(any) // a typed document cannot nest so deep
		}
		err := Decode([]byte(tc.text), into)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.Error(), tc.says) {
			t.Errorf("%s: got %v, want %q", name, err, tc.says)
		}
	}
}

func TestDecodeReadsWhatIsWritten(t *testing.T) {
	want := service()
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got := New(KindService)
	if err := Decode(text, got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"kind":"Service","metadata":{"name":"a"},"spec":{"containers":[{"image":"x"}]}}`))
	f.Add([]byte(`{"kind":"Service","spec":{"replicas":1e999}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := New(KindService).(*Service)
		if Decode(data, s) != nil {
			return
		}
		s.Default()
		s.Validate()
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatalf("%q was read but cannot be written: %v", data, err)
		}
		if err := Decode(again, New(KindService)); err != nil {
			t.Fatalf("%q was read and written as %q, which cannot be read: %v", data, again, err)
		}
	})
}

func TestQuantities(t *testing.T) {
	for text, want := range map[string]CPU{"2": 2000, "500m": 500, "0": 0, "1500m": 1500} {
		var c CPU
		if err := c.UnmarshalText([]byte(text)); err != nil || c != want {
			t.Errorf("%q: %d, %v", text, c, err)
		}
	}
	for text, want := range map[string]Bytes{"256Mi": 256 << 20, "1Ki": 1024, "5": 5, "0": 0} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want || b.String() != text {
			t.Errorf("%q: %s, %v", text, b, err)
		}
	}
	for _, bad := range []string{"", "-1", "1G", "1.5", "99999999999999999999", "9999999Ti", "1 Mi"} {
		if new(Bytes).UnmarshalText([]byte(bad)) == nil {
			t.Errorf("%q was taken for memory", bad)
		}
	}
}

func TestNearest(t *testing.T) {
	for word, want := range map[string]string{"replica": "replicas", "conatiners": "containers", "Ports": "ports", "zzz": "", "prots": "ports"} {
		if got := Nearest(word, []string{"replicas", "containers", "ports"}); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}

// TestDiffThenApply walks random desired states: a host that applies the patches has what the
// master has.
func TestDiffThenApply(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	host, master := Desired{}, Desired{}
	host = host.Apply(FullPatch(master))
	for i := range 500 {
		next := randomDesired(r, int64(i+1))
		p := Diff(master, next)
		if r.IntN(10) == 0 {
			p = FullPatch(next)
		}
		master, host = next, host.Apply(p)
		if d := cmp.Diff(master, host, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
			t.Fatalf("after step %d: %s", i, d)
		}
	}
}

func randomDesired(r *rand.Rand, rev int64) Desired {
	d := Desired{Revision: rev, Term: 1}
	for _, uid := range []UID{"a", "b", "c"} {
		if r.IntN(2) == 0 {
			p := Pod{}
			p.Metadata.UID, p.Metadata.Deleting = uid, r.IntN(2) == 0
			d.Pods = append(d.Pods, p)
		}
	}
	for _, n := range []Name{"h1", "h2"} {
		if r.IntN(2) == 0 {
			d.Directory.Hosts = append(d.Directory.Hosts, HostEntry{Name: n, Router: r.IntN(2) == 0})
			d.Directory.Revoked = append(d.Directory.Revoked, RevokedEntry{Host: n, Issued: time.Unix(r.Int64N(3), 0).UTC()})
			d.Directory.Services = append(d.Directory.Services, ServiceEntry{Project: "p", Name: n})
			d.Directory.Aliases = append(d.Directory.Aliases, AliasEntry{Host: Hostname(n), Port: Name([]string{"x", "y"}[r.IntN(2)])})
			d.Directory.Endpoints = append(d.Directory.Endpoints, HostEndpoints{Host: n, Seq: rev})
		}
	}
	d.Gossip = &GossipKeys{Seq: 1 + r.Int64N(2), Keys: [][]byte{{byte(r.IntN(2))}}}
	return d
}

func TestApplyKeepsAHostsNewerWord(t *testing.T) {
	d := Desired{}.Apply(Patch{Full: true, Endpoints: []HostEndpoints{{Host: "h1", Seq: 5}}})
	d.Directory, _ = d.Directory.Merge(HostEndpoints{Host: "h1", Seq: 7})
	for _, full := range []bool{true, false} {
		got := d.Apply(Patch{Full: full, Endpoints: []HostEndpoints{{Host: "h1", Seq: 6}}})
		if got.Directory.Endpoints[0].Seq != 7 {
			t.Errorf("full %t: the master's older endpoints replaced the host's own", full)
		}
	}
}
