package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

// Who reads and writes in P8, in a process of its own.

// What is asked of the API of P8, and how long.
const (
	simWrites = 200 // a second
	simReads  = 100 // a second
	simLoad   = 30 * time.Second
)

// simClient is who reads and writes, as a process of its own: what it measures then has nothing of the thousands of agents, with
// which the kernel lets it share the processors.
type simClient struct {
	At       string        `json:"at"`
	CA       string        `json:"ca"`
	Tokens   []string      `json:"tokens"` // of people
	Services int           `json:"services"`
	Hosts    []api.Name    `json:"hosts"`
	Time     time.Duration `json:"time"`
	people   []*client.Client
}

// simTimes is how long requests took, each from the time when it was due: a master that is late is not spared.
type simTimes struct {
	mu     sync.Mutex
	Reads  []time.Duration `json:"reads"`
	Writes []time.Duration `json:"writes"`
	Failed int             `json:"failed"`
	First  string          `json:"first"` // failure
}

// load lets a process of its own read and write for a while.
func (f *simFleet) load(ctx context.Context, services int) (*simTimes, error) {
	c := simClient{At: f.m.at, CA: string(f.m.ca.PEM()), Tokens: f.m.tokens, Services: services, Time: simLoad}
	for _, a := range f.agents {
		c.Hosts = append(c.Hosts, a.name)
	}
	in, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "nice", "-n", simNice, self, "-be-client")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("reading and writing: %w", err)
	}
	r := &simTimes{}
	return r, json.Unmarshal(out, r)
}

// beClient is that process.
func beClient(ctx context.Context, in io.Reader, out io.Writer) error {
	var c simClient
	if err := json.NewDecoder(in).Decode(&c); err != nil {
		return err
	}
	var err error
	if c.people, err = simClients(c.At, []byte(c.CA), c.Tokens); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(c.run(ctx))
}

// run reads and writes at their rates, whatever the answers take.
func (c *simClient) run(ctx context.Context) *simTimes {
	r := &simTimes{}
	var both, wg sync.WaitGroup
	ask := func(rate int, to *[]time.Duration, do func(context.Context, *client.Client, int) error) {
		start := time.Now()
		for i := 0; time.Since(start) < c.Time && ctx.Err() == nil; i++ {
			due := start.Add(time.Duration(i) * time.Second / time.Duration(rate))
			_ = sleep(ctx, time.Until(due))
			wg.Go(func() {
				err := do(ctx, c.people[i%len(c.people)], i)
				r.note(to, time.Since(due), err)
			})
		}
	}
	both.Go(func() { ask(simWrites, &r.Writes, c.write) })
	both.Go(func() { ask(simReads, &r.Reads, c.read) })
	both.Wait()
	wg.Wait()
	return r
}

func (r *simTimes) note(to *[]time.Duration, took time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		*to = append(*to, took)
		return
	}
	r.Failed++
	r.First = cmp.Or(r.First, err.Error())
}

// write changes a service: nine times of ten its labels, of which nobody but people takes notice, and once how many pods it
// has, which the scheduler and some agents have to follow.
func (c *simClient) write(ctx context.Context, by *client.Client, i int) error {
	s := simulated(i%c.Services, simReplicas)
	s.Metadata.Labels = map[string]string{"write": fmt.Sprint(i)}
	if i%10 == 0 {
		*s.Spec.Replicas -= 1 + i/c.Services%2
	}
	_, _, err := by.Put(ctx, s)
	return err
}

// read reads a service, a host, or all services of a project.
func (c *simClient) read(ctx context.Context, by *client.Client, i int) (err error) {
	switch i % 10 {
	default:
		_, err = by.Get(ctx, simulated(rand.N(c.Services), 0).Key())
	case 1, 2:
		_, err = by.Get(ctx, api.Key{Kind: api.KindHost, Name: c.Hosts[rand.N(len(c.Hosts))]})
	case 3:
		_, err = client.List[api.Service](ctx, by, simProject(rand.N(simProjects)))
	}
	return err
}

// The services of P8: so many pods each, in so many projects.
const (
	simReplicas = 10
	simProjects = 50
)

func simProject(i int) api.Name { return api.Name(fmt.Sprint("p", i%simProjects)) }

// simulated gives a service of P8.
func simulated(i, replicas int) *api.Service {
	s := &api.Service{Header: api.Header{Kind: api.KindService, Metadata: api.Metadata{Name: api.Name(fmt.Sprint("s", i)), Project: simProject(i)}}}
	s.Spec.Replicas = &replicas
	s.Spec.Containers = []api.Container{{Image: "example.com/web:1", Resources: api.Resources{CPU: 100, Memory: 64 << 20}}}
	s.Spec.Ports = []api.Port{{Name: "http", Port: 8080}}
	return s
}
