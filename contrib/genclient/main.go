// Command genclient uses a client that a generator made from the master's own description of its API (GET /openapi.json):
// what it does is what a program in another language would do with one. The generated file is not kept: a test of package
// master makes it anew, beside a copy of this folder, and runs this against a master.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
)

//go:generate go tool oapi-codegen -generate types,client -package main -o client.gen.go openapi.json

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: genclient URL CA-FILE TOKEN")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "genclient:", err)
		os.Exit(1)
	}
	fmt.Println("done")
}

func run(ctx context.Context, url, ca, token string) error {
	c, err := connect(url, ca, token)
	if err != nil {
		return err
	}
	for _, step := range []func(context.Context, *ClientWithResponses) error{create, apply, pages, refusals, watch, remove} {
		if err := step(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

func connect(url, ca, token string) (*ClientWithResponses, error) {
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate", ca)
	}
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}}}
	return NewClientWithResponses(url, WithHTTPClient(h), WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+token)
		return nil
	}))
}

// answer is what all generated responses have.
type answer interface {
	StatusCode() int
	GetApplicationproblemJSONDefault() *Error
}

// said makes an error of what a request brought, unless it is what was wanted.
func said(what string, a answer, err error, want int) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if a.StatusCode() == want {
		return nil
	}
	if p := a.GetApplicationproblemJSONDefault(); p != nil && p.Detail != nil {
		return fmt.Errorf("%s: %d %s: %s; want %d", what, a.StatusCode(), p.Code, *p.Detail, want)
	}
	return fmt.Errorf("%s: status %d; want %d", what, a.StatusCode(), want)
}

// service is one that validates.
func service(name string, replicas int64) Service {
	return Service{
		Kind:     ServiceKindService,
		Metadata: Metadata{Name: name, Labels: &map[string]string{"tier": "front"}},
		Spec: ServiceSpec{
			Replicas:   &replicas,
			Containers: []Container{{Image: ptr("registry.example.com/web:1")}},
			Ports:      &[]Port{{Name: ptr("http"), Port: 8080}},
		},
	}
}

func ptr[T any](v T) *T { return &v }

// create makes a project and a service, twice by the same key: the second time changes nothing and has the same answer.
func create(ctx context.Context, c *ClientWithResponses) error {
	p, err := c.CreateProjectWithResponse(ctx, nil, Project{Kind: ProjectKindProject, Metadata: Metadata{Name: "made"}})
	if err := said("create a project", p, err, http.StatusCreated); err != nil {
		return err
	}
	var uid string
	for range 2 {
		s, err := c.CreateServiceWithResponse(ctx, "made", &CreateServiceParams{IdempotencyKey: ptr("the-first-service")}, service("web", 2))
		if err := said("create a service", s, err, http.StatusCreated); err != nil {
			return err
		}
		got := s.JSON201
		if got.Metadata.Uid == nil || uid != "" && *got.Metadata.Uid != uid || *got.Spec.Replicas != 2 || *got.Metadata.Project != "made" {
			return fmt.Errorf("create a service by a key: %s", s.Body)
		}
		uid = *got.Metadata.Uid
	}
	return nil
}

// apply stores two services in one transaction.
func apply(ctx context.Context, c *ClientWithResponses) error {
	body := ApplyBody{}
	for _, name := range []string{"api", "jobs"} {
		s := service(name, 1)
		s.Metadata.Project = ptr("made")
		text, err := json.Marshal(s)
		if err != nil {
			return err
		}
		var one map[string]any
		if err := json.Unmarshal(text, &one); err != nil {
			return err
		}
		body.Resources = append(body.Resources, one)
	}
	a, err := c.ApplyWithResponse(ctx, nil, body)
	if err := said("apply", a, err, http.StatusOK); err != nil {
		return err
	}
	if len(a.JSON200.Resources) != 2 {
		return fmt.Errorf("apply changed %s", a.Body)
	}
	return nil
}

// pages reads the services one a page, all of one revision; and those that a selector leaves out.
func pages(ctx context.Context, c *ClientWithResponses) error {
	params := &ListServicesParams{Limit: ptr("1"), Fresh: ptr("1")}
	var names []string
	var revision int64
	for {
		l, err := c.ListServicesWithResponse(ctx, "made", params)
		if err := said("list services", l, err, http.StatusOK); err != nil {
			return err
		}
		if revision != 0 && l.JSON200.Revision != revision {
			return fmt.Errorf("pages of revisions %d and %d", revision, l.JSON200.Revision)
		}
		revision = l.JSON200.Revision
		for _, s := range l.JSON200.Items {
			names = append(names, s.Metadata.Name)
		}
		if l.JSON200.Continue == nil {
			break
		}
		params = &ListServicesParams{Limit: ptr("1"), Continue: l.JSON200.Continue}
	}
	if fmt.Sprint(names) != "[api jobs web]" {
		return fmt.Errorf("listed %v", names)
	}
	l, err := c.ListServicesWithResponse(ctx, "made", &ListServicesParams{Selector: ptr("!tier"), Fresh: ptr("1")})
	if err := said("select services", l, err, http.StatusOK); err != nil {
		return err
	}
	if l.JSON200.Items == nil || len(l.JSON200.Items) != 0 {
		return fmt.Errorf("a list of none is %s, want items: []", l.Body)
	}
	return nil
}

// refusals sees that errors come with their shape: what is not there, an old revision, and two faults at once.
func refusals(ctx context.Context, c *ClientWithResponses) error {
	g, err := c.GetServiceWithResponse(ctx, "made", "nothing", nil)
	if err := said("get what is not there", g, err, http.StatusNotFound); err != nil {
		return err
	}
	old := service("web", 3)
	old.Metadata.Revision = ptr(int64(1))
	r, err := c.ReplaceServiceWithResponse(ctx, "made", "web", nil, old)
	if err := said("replace an old revision", r, err, http.StatusConflict); err != nil {
		return err
	}
	wrong := service("web", -1)
	(*wrong.Spec.Ports)[0].Port = 0
	r, err = c.ReplaceServiceWithResponse(ctx, "made", "web", &ReplaceServiceParams{DryRun: ptr("1")}, wrong)
	if err := said("try a wrong service", r, err, http.StatusUnprocessableEntity); err != nil {
		return err
	}
	if p := r.ApplicationproblemJSONDefault; p == nil || p.Faults == nil || len(*p.Faults) != 2 {
		return fmt.Errorf("two faults are told as %s", r.Body)
	}
	return nil
}

// watch follows the services until all that there are have been told.
func watch(ctx context.Context, c *ClientWithResponses) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := c.Watch(ctx, &WatchParams{Kinds: ptr("services"), Project: ptr("made")})
	if err != nil {
		return err
	}
	defer r.Body.Close()
	told := 0
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		var line WatchLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return err
		}
		switch string(line.Type) {
		case "put":
			told++
		case "sync":
			if told != 3 || line.Revision == 0 {
				return fmt.Errorf("a watch told of %d services up to revision %d", told, line.Revision)
			}
			return nil
		default:
			return fmt.Errorf("a watch said %s", lines.Text())
		}
	}
	return errors.New("a watch ended by itself")
}

func remove(ctx context.Context, c *ClientWithResponses) error {
	d, err := c.DeleteServiceWithResponse(ctx, "made", "jobs", nil)
	return said("delete a service", d, err, http.StatusOK)
}
