package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/story"
)

// P8.leader: three masters as processes on loopback, and agents with the client that real ones have. The leader is killed, and a
// service is given to another master at once.

const (
	leaderAgents = 300 // at most; those of P8 when these are fewer
	leaderPods   = 10  // of the service
	leaderRuns   = 5   // at least
)

// trio is three masters of one cluster.
type trio struct {
	masters []*simMaster
	person  []*client.Client // one for each master, that asks no other
	agents  []*trioAgent
	wg      sync.WaitGroup
}

// trioAgent is a simulated agent that finds the leader by the client of a real one.
type trioAgent struct {
	*simAgent
	masters *client.Client
}

// measureLeader is P8.leader.
func measureLeader(ctx context.Context, b *bench) (rows []figures.Row, err error) {
	ctx, cancel := context.WithCancel(ctx)
	t := &trio{}
	defer func() { err = errors.Join(err, t.stop()) }()
	defer t.wg.Wait()
	defer cancel()
	if err := t.start(ctx, b.geard); err != nil {
		return nil, err
	}
	if err := t.join(ctx, min(leaderAgents, b.agents)); err != nil {
		return nil, err
	}
	b.say("P8.leader: three masters, and %d agents", len(t.agents))
	var placed, run []time.Duration
	for i := range max(leaderRuns, b.runs) {
		p, r, err := t.loseLeader(ctx, b.geard, i)
		if err != nil {
			return nil, fmt.Errorf("run %d: %w", i+1, err)
		}
		b.say("P8.leader run %d: placed after %v, runs after %v", i+1, p, r)
		placed, run = append(placed, p), append(run, r)
	}
	with := fmt.Sprintf("three masters, %d agents: kill -9 of the leader → a service of %d pods that another one is given at once ", len(t.agents), leaderPods)
	return []figures.Row{figures.Times("P8.leader", with+"is placed", placed), figures.Times("P8.leader.run", with+"runs, and the API says so", run)}, nil
}

// start starts the first master and lets the other two join it.
func (t *trio) start(ctx context.Context, geard string) error {
	first, err := newMaster("m1", netip.AddrFrom4([4]byte{127, 0, 0, 2}))
	if err != nil {
		return err
	}
	t.masters = append(t.masters, first)
	if err := first.make(); err != nil {
		return err
	}
	if err := first.start(ctx, geard); err != nil {
		return err
	}
	for i := 2; i <= 3; i++ {
		next, err := newMaster(fmt.Sprint("m", i), netip.AddrFrom4([4]byte{127, 0, 0, byte(i + 1)}))
		if err != nil {
			return err
		}
		t.masters = append(t.masters, next)
		next.ca, next.tokens = first.ca, first.tokens
		token, err := first.people[0].CreateToken(ctx, api.TokenRequest{Master: true})
		if err != nil {
			return err
		}
		file := filepath.Join(next.dir, "token")
		if err := os.WriteFile(file, []byte(token.Token), 0o600); err != nil {
			return err
		}
		if next.people, err = simClients(next.at, next.ca.PEM(), next.tokens); err != nil {
			return err
		}
		if err := next.start(ctx, geard, "--join", first.at, "--token-file", file); err != nil {
			return err
		}
		if err := t.whole(ctx, i); err != nil {
			return err
		}
	}
	for _, m := range t.masters {
		t.person = append(t.person, m.people[0])
	}
	_, _, err = t.person[0].Put(ctx, &api.Project{Header: api.Header{Kind: api.KindProject, Metadata: api.Metadata{Name: simProject(0)}}})
	return err
}

// whole waits until n masters have a vote, and every one of them answers and sees a leader.
func (t *trio) whole(ctx context.Context, n int) error {
	return story.Until(ctx, time.Minute, func() error {
		for _, m := range t.masters {
			list, err := m.people[0].Masters(ctx)
			if err != nil {
				return err
			}
			voters, leaders := 0, 0
			for _, x := range list.Items {
				if x.State == api.MasterVoter {
					voters++
				}
				if x.Leads {
					leaders++
				}
			}
			if voters != n || leaders != 1 {
				return fmt.Errorf("for master %s there are %d masters with a vote and %d that lead, want %d and 1", m.name, voters, leaders, n)
			}
		}
		return nil
	})
}

// leader gives the place of the master that leads.
func (t *trio) leader(ctx context.Context) (int, error) {
	list, err := t.person[0].Masters(ctx)
	if err != nil {
		return 0, err
	}
	for _, x := range list.Items {
		for i, m := range t.masters {
			if x.Leads && string(x.Name) == m.name {
				return i, nil
			}
		}
	}
	return 0, errors.New("no master leads")
}

// join lets agents join, and run.
func (t *trio) join(ctx context.Context, n int) error {
	f := &simFleet{m: t.masters[0], say: func(string, ...any) {}}
	anybody, err := client.New(client.Config{Server: f.m.at, CA: f.m.ca.PEM(), ServerName: client.MasterName})
	if err != nil {
		return err
	}
	defer anybody.Close()
	var all []string
	for _, m := range t.masters {
		all = append(all, m.at)
	}
	for i := range n {
		a, cert, err := f.identity(ctx, anybody, i)
		if err != nil {
			return err
		}
		c, err := client.New(client.Config{Server: all[0], Others: all[1:], CA: f.m.ca.PEM(), ServerName: client.MasterName,
			Certificate: func() (*tls.Certificate, error) { return &cert, nil }})
		if err != nil {
			return err
		}
		agent := &trioAgent{a, c}
		t.agents = append(t.agents, agent)
		t.wg.Go(func() { agent.listen(ctx) })
		t.wg.Go(func() { agent.tell(ctx) })
	}
	return story.Until(ctx, time.Minute, func() error {
		hosts, err := client.List[api.Host](ctx, t.person[0], "")
		if err != nil {
			return err
		}
		for _, h := range hosts.Items {
			if h.Status.State != api.HostReady {
				return fmt.Errorf("host %s is %s", h.Metadata.Name, h.Status.State)
			}
		}
		return want("hosts", len(hosts.Items), n)
	})
}

func (a *trioAgent) listen(ctx context.Context) {
	for p, err := range a.masters.Desired(ctx, a.name) {
		if err == nil {
			a.apply(p.Full, p.Pods, p.Removed)
			a.tellNow()
		}
	}
}

func (a *trioAgent) tell(ctx context.Context) {
	defer a.masters.Close()
	wait := api.ReportEvery
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		case <-a.kick:
		}
		answer, err := a.masters.Report(ctx, a.said())
		wait = api.ReportEvery
		if err == nil {
			wait = api.ReportWait(answer.Every.Std(), false)
		}
	}
}

// loseLeader kills the leader, gives a service to the next master, and waits until it is placed and until it runs, as that one says.
// Then the dead one comes back.
func (t *trio) loseLeader(ctx context.Context, geard string, run int) (placed, runs time.Duration, err error) {
	dead, err := t.leader(ctx)
	if err != nil {
		return 0, 0, err
	}
	other := t.person[(dead+1)%len(t.person)]
	if err := t.masters[dead].kill(); err != nil {
		return 0, 0, err
	}
	start := time.Now()
	s := simulated(0, leaderPods)
	s.Metadata.Name = api.Name(fmt.Sprint("after", run))
	err = quickly(ctx, func() (bool, error) {
		_, _, err := other.Put(ctx, s)
		return err == nil, nil // until there is a leader of the store
	})
	if err != nil {
		return 0, 0, fmt.Errorf("writing a service: %w", err)
	}
	err = quickly(ctx, func() (bool, error) {
		if placed == 0 && t.placed(ctx, other, s) == leaderPods {
			placed = time.Since(start)
		}
		now, err := client.Get[api.Service](ctx, other, s.Metadata.Project, s.Metadata.Name)
		if err == nil && placed > 0 && now.Status.Ready == leaderPods {
			runs = time.Since(start)
		}
		return runs > 0, nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("a service that was written after the leader's death: %w", err)
	}
	if err := t.masters[dead].start(ctx, geard); err != nil {
		return 0, 0, err
	}
	return placed, runs, errors.Join(t.whole(ctx, len(t.masters)), sleep(ctx, simSettle))
}

// placed counts the pods of a service that have a host.
func (t *trio) placed(ctx context.Context, by *client.Client, s *api.Service) (n int) {
	pods, err := client.List[api.Pod](ctx, by, s.Metadata.Project)
	if err != nil {
		return 0 // it is asked again
	}
	for _, p := range pods.Items {
		if p.Spec.Service == s.Metadata.Name && p.Spec.Host != "" {
			n++
		}
	}
	return n
}

// stop ends all masters.
func (t *trio) stop() (err error) {
	for _, m := range t.masters {
		err = errors.Join(err, m.stop())
	}
	return err
}
