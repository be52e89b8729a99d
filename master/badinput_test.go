package master

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"gearmesh.dev/api"
)

// hostile is text that means something to a unit file, a shell, a path or a terminal.
var hostile = []string{
	"a\nb", "a\rb", "a\x00b", `a\`, "%n", "$(x)", "`x`", "a b", "../a", "a/b", "A", "-a", "a-", "ä", "a\u202eb",
	strings.Repeat("a", 64), "",
}

func TestHostileNamesInPaths(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	before := c.stored()
	for _, name := range hostile {
		if name == "" {
			continue // another path
		}
		for _, path := range []string{"/v1/projects/%s", "/v1/projects/shop/services/%s", "/v1/projects/%s/services/web"} {
			path = fmt.Sprintf(path, url.PathEscape(name))
			for method, body := range map[string]string{"GET": "", "DELETE": "", "PUT": "{}"} {
				a := ann.do(method, path, body)
				e := a.problem(t)
				unclean := strings.HasPrefix(name, "../") && a.status == http.StatusNotFound // no path at all
				if !unclean && (a.status != http.StatusUnprocessableEntity || len(e.Faults) == 0) {
					t.Errorf("%s %s: %d %s", method, path, a.status, a.body)
				}
			}
		}
	}
	if c.stored() != before {
		t.Errorf("something was stored:\n%s", c.stored())
	}
}

func TestHostileFields(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	before := c.stored()
	fields := map[string]func(s *api.Service, text string){
		"metadata.name":    func(s *api.Service, x string) { s.Metadata.Name = api.Name(x) },
		"metadata.project": func(s *api.Service, x string) { s.Metadata.Project = api.Name(x) },
		"spec.containers[0]": func(s *api.Service, x string) {
			s.Spec.Containers = append(s.Spec.Containers, s.Spec.Containers[0])
			s.Spec.Containers[0].Name = api.Name(x)
		},
		"spec.containers[0].image": func(s *api.Service, x string) { s.Spec.Containers[0].Image = x },
		"spec.ports[0]": func(s *api.Service, x string) {
			s.Spec.Ports[0].Name = api.Name(x)
			s.Spec.Ports = append(s.Spec.Ports, api.Port{Name: "z", Port: 1})
		},
		"spec.links[0].service": func(s *api.Service, x string) { s.Spec.Links = []api.Link{{Service: api.Name(x), LocalPort: 1}} },
		"spec.aliases[0]":       func(s *api.Service, x string) { s.Spec.Aliases = []api.Hostname{api.Hostname(x)} },
		"spec.env":              func(s *api.Service, x string) { s.Spec.Env = map[string]string{x: "1"} },
		"spec.volumes[0]":       func(s *api.Service, x string) { s.Spec.Volumes = []api.Volume{{Name: api.Name(x)}} },
		"spec.containers[0].mounts": func(s *api.Service, x string) {
			s.Spec.Containers[0].Mounts = []api.Mount{{Volume: "d", Path: x}}
			s.Spec.Volumes = []api.Volume{{Name: "d"}}
		},
		"spec.containers[0].stopSignal": func(s *api.Service, x string) { s.Spec.Containers[0].StopSignal = x + "\n" },
		"spec.placement.require[0]": func(s *api.Service, x string) {
			s.Spec.Placement.Require = []api.Requirement{{Label: x + "\n", In: []string{"a"}}}
		},
	}
	for field, change := range fields {
		for _, text := range hostile {
			if field == "spec.env" && (text == "A") || field == "metadata.name" && text == "" || field == "metadata.project" && text == "" ||
				field == "spec.containers[0].image" && (len(text) == 64 || text == "a/b" || text == "../a") ||
				field == "spec.env" && len(text) == 64 {
				continue // right there, or filled in from the path
			}
			s := web("shop", "web")
			change(s, text)
			a := ann.do("PUT", "/v1/projects/shop/services/web", s)
			e := a.problem(t)
			if a.status != http.StatusUnprocessableEntity || !named(e, field) {
				t.Errorf("%s = %q: %d %s", field, text, a.status, a.body)
			}
			a = ann.do("POST", "/v1/apply", applyOf(project("shop"), s))
			if e := a.problem(t); a.status != http.StatusUnprocessableEntity || !named(e, "resources[1]."+field) {
				t.Errorf("applied, %s = %q: %d %s", field, text, a.status, a.body)
			}
		}
	}
	for _, value := range []string{"a\nb", "a\rb", "a\x00b"} {
		s := web("shop", "web")
		s.Spec.Env = map[string]string{"A": value}
		if e := ann.must("PUT", "/v1/projects/shop/services/web", s, http.StatusUnprocessableEntity).problem(t); !named(e, "spec.env.A") {
			t.Errorf("env %q: %+v", value, e)
		}
	}
	if c.stored() != before {
		t.Errorf("something was stored:\n%s", c.stored())
	}
}

func named(e api.Error, field string) bool {
	for _, f := range e.Faults {
		if strings.HasPrefix(f.Field, field) && f.Message != "" {
			return true
		}
	}
	return false
}

func TestMalformedDocuments(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	before := c.stored()
	good := string(mustJSON(web("shop", "web")))
	for name, test := range map[string]struct {
		body   string
		status int
		says   string
	}{
		"empty":             {"", 400, "too early"},
		"cut off":           {good[:len(good)-2], 400, "too early"},
		"no JSON":           {"kind: Service", 400, "no JSON"},
		"null":              {"null", 422, "containers"},
		"a list":            {"[]", 422, "a list is given where an object is needed"},
		"two documents":     {good + good, 400, "one document"},
		"trailing text":     {good + "x", 400, "one document"},
		"unknown field":     {strings.Replace(good, `"image"`, `"imag"`, 1), 422, `did you mean \"image\"?`},
		"wrong case":        {strings.Replace(good, `"image"`, `"Image"`, 1), 422, `spec.containers[0].Image`},
		"given twice":       {strings.Replace(good, `"image"`, `"image":"a","image"`, 1), 422, "given twice"},
		"wrong type":        {strings.Replace(good, `"example.com/web:1"`, `7`, 1), 422, "number"},
		"port out of range": {strings.Replace(good, `8080`, `70000`, 1), 422, "port"},
		"other name":        {strings.Replace(good, `"name":"web"`, `"name":"other"`, 1), 422, "metadata.name"},
		"other project":     {strings.Replace(good, `"project":"shop"`, `"project":"other"`, 1), 422, "metadata.project"},
		"other kind":        {strings.Replace(good, `"Service"`, `"Pod"`, 1), 422, `"field":"kind"`},
		"other version":     {strings.Replace(good, `"v1"`, `"v2"`, 1), 422, "version"},
		"not UTF-8":         {strings.Replace(good, "example", "ex\xffample", 1), 400, "UTF-8"},
		"too deep":          {strings.Repeat(`{"spec":`, 100) + "1" + strings.Repeat("}", 100), 422, "spec.spec"},
		"too deep a list":   {`{"spec":{"containers":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "}}", 422, "spec.containers[0]"},
		"too large":         {`{"spec":"` + strings.Repeat("a", maxBody) + `"}`, 413, "1048576 bytes"},
	} {
		a := ann.do("PUT", "/v1/projects/shop/services/web", test.body)
		if e := a.problem(t); a.status != test.status || e.Code == "" || !bytes.Contains(a.body, []byte(test.says)) {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if c.stored() != before {
		t.Errorf("something was stored:\n%s", c.stored())
	}
}

func TestMalformedQueries(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	for _, path := range []string{
		"/v1/watch?kinds=service", "/v1/watch?revision=x", "/v1/watch?revision=-1", "/v1/watch?kind=services",
		"/v1/watch?project=A", "/v1/watch?revision=1&revision=2", "/v1/projects?labelSelector=a", "/v1/projects?selector=%3Da", "/v1/projects?selector=a%0Ab", "/v1/watch?selector=a=b,", "/v1/projects?limit=0", "/v1/projects?limit=x",
		"/v1/projects?limit=10001",
		"/v1/projects/shop/logs?tail=-1", "/v1/projects/shop/logs?since=yesterday", "/v1/projects/shop/logs?follow=maybe",
		"/v1/projects/shop/logs?pod=A", "/v1/projects?a=%00",
	} {
		if a := ann.do("GET", path, nil); a.status != http.StatusBadRequest || a.problem(t).Detail == "" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if a := ann.do("DELETE", "/v1/projects/shop?revisoin=1", nil); a.status != http.StatusBadRequest || !strings.Contains(string(a.body), "did you mean") {
		t.Errorf("a mistyped revision: %d %s", a.status, a.body)
	}
	ann.must("GET", "/v1/projects/shop", nil, http.StatusOK)
}

func TestHostileJoins(t *testing.T) {
	c := startCluster(t)
	token := read[api.JoinToken](t, c.ann().must("POST", "/v1/tokens", nil, http.StatusCreated))
	_, csr := newRequest(t)
	good := fmt.Sprintf(`{"token":%q,"name":"h1","address":"10.0.0.1","csr":%s}`, token.Token, mustJSON(csr))
	for name, change := range map[string][2]string{
		"name":    {`"h1"`, `"h1\n"`},
		"master":  {`"h1"`, `"master"`},
		"address": {`"10.0.0.1"`, `"0.0.0.0"`},
		"zone":    {`"10.0.0.1"`, `"fe80::1%eth0"`},
		"label":   {`"name"`, `"labels":{"a\nb":"c"},"name"`},
		"value":   {`"name"`, `"labels":{"a":"b\nc"},"name"`},
		"field":   {`"name"`, `"Name"`},
		"csr":     {string(mustJSON(csr)), `"x"`},
	} {
		a := c.user("", nil).do("POST", "/v1/join", strings.Replace(good, change[0], change[1], 1))
		if a.status != http.StatusUnprocessableEntity || len(a.problem(t).Faults) == 0 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if strings.Contains(c.stored(), "host/") {
		t.Errorf("a host was stored:\n%s", c.stored())
	}
	c.user("", nil).must("POST", "/v1/join", good, http.StatusCreated) // nothing of that used the token up
}

// FuzzResource: whatever is sent, the answer is a success or a problem, and what is stored is valid.
func FuzzResource(f *testing.F) {
	f.Add(string(mustJSON(web("shop", "web"))))
	f.Add(`{"kind":"Service","spec":{"containers":[{"image":"a"}],"env":{"A":"\u0000"}}}`)
	f.Fuzz(func(t *testing.T, body string) {
		c := &call{Request: &http.Request{}, body: []byte(body)}
		r, err := c.read(api.KindService)
		if err != nil {
			if p := problemOf(err); p.Status < 400 || p.Status > 499 {
				t.Errorf("%v gives %d", err, p.Status)
			}
			return
		}
		data, err := encode(r)
		if err != nil || !json.Valid(data) {
			t.Fatalf("encoding what was taken: %v", err)
		}
		again := api.New(api.KindService)
		if err := api.Decode(data, again); err != nil || len(again.Validate()) > 0 {
			t.Errorf("what is stored is not valid: %v, %v", err, again.Validate())
		}
	})
}
