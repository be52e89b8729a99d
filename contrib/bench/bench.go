package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
	"gearmesh.dev/contrib/lab"
	"gearmesh.dev/contrib/story"
	"gearmesh.dev/internal/clientconfig"
)

// The project of what is measured, and the images it is made of.
const (
	project  = api.Name("bench")
	domain   = "gear.internal"
	webImage = lab.RegistryName + ":5000/guestbook/web:1"
	// sleepImage has coreutils: what runs from it binds no port, so that many fit on a host's network.
	sleepImage = lab.RegistryName + ":5000/guestbook/redis:1"
)

// target is the host that containers are started on; neither the master nor the first router is on it.
const target = "h2"

// calm is how long everything is left alone between two runs: until the kernel has cleared up network
// namespaces, and systemd the units, of the run before.
const calm = 1500 * time.Millisecond

// bench is a lab with Gearmesh on it that is measured.
type bench struct {
	world    *story.World
	api      *client.Client
	address  map[string]netip.Addr // of hosts
	runs     int
	parallel int
	hosts    int    // of P4
	seed     uint64 // of P7
	cluster  string // file of P7, instead of a seed
	agents   int    // of P8
	geard    string // the program that P8's master is
	say      func(format string, args ...any)
}

// boot makes the lab and the cluster, and puts the images on the target.
func (b *bench) boot(ctx context.Context) error {
	done := func(s story.Step, took time.Duration, err error) { b.say("%-66s %6.1f s", s.Name, took.Seconds()) }
	if err := b.world.Run(ctx, story.Boot(), done); err != nil {
		return err
	}
	hosts, err := b.world.Lab.List(ctx)
	if err != nil {
		return err
	}
	b.address = map[string]netip.Addr{}
	for _, h := range hosts {
		b.address[h.Name] = h.Address
	}
	if err := b.connect(ctx); err != nil {
		return err
	}
	for _, h := range hosts {
		if _, err := b.sh(ctx, h.Name, `for i; do docker pull -q "$i"; done`, webImage, sleepImage); err != nil {
			return err
		}
	}
	return b.put(ctx, &api.Project{Header: api.Header{Kind: api.KindProject, Metadata: api.Metadata{Name: project}}})
}

// connect makes a client that is what root's gear on h1 is, but outside the hosts: no process is
// started for a call.
func (b *bench) connect(ctx context.Context) error {
	text, err := b.world.Exec(ctx, "h1", "cat", "/root/.config/gear/config.json")
	if err != nil {
		return err
	}
	var file clientconfig.File
	if err := json.Unmarshal([]byte(text), &file); err != nil {
		return fmt.Errorf("reading the administrator's configuration of h1: %w", err)
	}
	c, err := file.Context("")
	if err != nil {
		return err
	}
	b.api, err = client.New(client.Config{ServerName: client.MasterName, Server: c.Server, CA: []byte(c.CA), Token: c.Token})
	return err
}

// machine says how busy the machine is, and of which versions everything is.
func (b *bench) machine(ctx context.Context) (string, error) {
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", err
	}
	busy := fmt.Sprintf("load average %s on %d processors", strings.Join(strings.Fields(string(load))[:3], " "), runtime.NumCPU())
	if b.world == nil {
		return fmt.Sprintf("%s; %s; no lab; median of %d runs", busy, runtime.Version(), b.runs), nil
	}
	versions, err := b.sh(ctx, target, `uname -r; docker version -f '{{.Server.Version}}'; systemctl --version | sed -n '1s/systemd \([^ ]*\).*/\1/p'`)
	v := strings.Fields(versions)
	if err != nil || len(v) != 3 {
		return "", fmt.Errorf("asking for versions: %q: %w", versions, err)
	}
	ours, err := b.api.Version(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s; Gearmesh %s, Linux %s, dockerd %s, systemd %s, %s; %d hosts in one lab; median of %d runs",
		busy, ours, v[0], v[1], v[2], runtime.Version(), len(b.address), b.runs), nil
}

// sh runs a shell script in a host; it ends with the script's first error.
func (b *bench) sh(ctx context.Context, host, script string, args ...string) (string, error) {
	return b.world.Exec(ctx, host, append([]string{"sh", "-euc", script, "sh"}, args...)...)
}

func (b *bench) put(ctx context.Context, r api.Resource) error {
	_, _, err := b.api.Put(ctx, r)
	return err
}

// service gives a service of the bench whose pods run on the given hosts; on any when there are none.
func service(name string, replicas int, c api.Container, hosts ...string) *api.Service {
	s := &api.Service{Header: api.Header{Kind: api.KindService, Metadata: api.Metadata{Name: api.Name(name), Project: project}}}
	s.Spec.Replicas = &replicas
	s.Spec.Containers = []api.Container{c}
	if len(hosts) > 0 {
		s.Spec.Placement.Require = []api.Requirement{{Label: api.HostLabel, In: hosts}}
	}
	return s
}

// web is the guestbook's web server, which serves /healthz without its database.
func web() api.Container { return api.Container{Image: webImage} }

// sleeper does nothing, and dies at once when it is to end.
func sleeper() api.Container {
	return api.Container{Image: sleepImage, Command: []string{"sleep", "infinity"}, StopSignal: "SIGKILL"}
}

// pods gives the pods of a service.
func (b *bench) pods(ctx context.Context, service string) ([]api.Pod, error) {
	list, err := client.List[api.Pod](ctx, b.api, project)
	if err != nil {
		return nil, err
	}
	var out []api.Pod
	for _, p := range list.Items {
		if string(p.Spec.Service) == service {
			out = append(out, p)
		}
	}
	return out, nil
}

// ready waits until n pods of a service are ready, and gives them. It asks for the service alone as long as that says otherwise: a list
// of many pods, ten times a second, would be a part of what is measured.
func (b *bench) ready(ctx context.Context, service string, n int) ([]api.Pod, error) {
	var ready []api.Pod
	err := story.Until(ctx, 3*time.Minute, func() error {
		s, err := client.Get[api.Service](ctx, b.api, project, api.Name(service))
		if err != nil {
			return err
		}
		if s.Status.Ready != n {
			return fmt.Errorf("%d of %d pods of %s are ready: %s", s.Status.Ready, n, service, s.Status.Message)
		}
		pods, err := b.pods(ctx, service)
		if err != nil {
			return err
		}
		ready = ready[:0]
		why := ""
		for _, p := range pods {
			if p.Status.Ready && !p.Metadata.Deleting {
				ready = append(ready, p)
			} else {
				why = fmt.Sprintf(": %s is %s: %s", p.Metadata.Name, p.Status.Phase, p.Status.Message)
			}
		}
		if len(ready) != n {
			return fmt.Errorf("%d of %d pods of %s are ready%s", len(ready), n, service, why)
		}
		return nil
	})
	return ready, err
}

// remove deletes a service, waits until nothing is left of its pods, and a moment longer.
func (b *bench) remove(ctx context.Context, s *api.Service) error {
	key := s.Key()
	if _, err := b.api.Delete(ctx, key, 0); err != nil && !notFound(err) {
		return err
	}
	err := story.Until(ctx, 2*time.Minute, func() error {
		_, err := b.api.Get(ctx, key)
		if err == nil {
			return fmt.Errorf("%v is still there", key)
		}
		if notFound(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	return rest(ctx)
}

func notFound(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && e.Code == api.CodeNotFound
}

// rest waits for a moment, so that the next run starts on a calm host.
func rest(ctx context.Context) error { return sleep(ctx, calm) }
