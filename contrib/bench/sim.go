package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/story"
)

// P8: which figures are taken of a master with simulated agents, and in which order.

// What P8 asks for, and at which numbers of agents it looks.
const (
	simReadP99  = 50  // ms
	simWriteP99 = 200 // ms
	simMemory   = 2048
	simIdle     = 5
	simWindow   = api.ReportEveryMost + 2*time.Second // each agent reports in it
	simSettle   = 5 * time.Second
	simProbe    = 100 // pods of the service that must come to run
	simProbes   = 5
)

// simSizes gives the numbers of agents that P8 looks at, up to the last.
func simSizes(agents int) []int {
	var out []int
	for _, n := range []int{500, 1000, 2500, 5000} {
		if n < agents {
			out = append(out, n)
		}
	}
	return append(out, agents)
}

// measureMaster is P8: a real master, in a process of its own with an embedded store, and simulated agents in this one. It needs
// no lab. What the master takes is read from /proc/PID/stat. The agents share the machine with it, and give way to it, but on two processors
// they are half of the load: the times of reads and writes have what they and the kernel take from the master in them, and P8.wait says how
// much of that is waiting for a processor.
func measureMaster(ctx context.Context, b *bench) (rows []figures.Row, err error) {
	m, err := startMaster(ctx, b.geard)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.stop()) }()
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // the agents are to take little of what they share with the master
	inner, cancel := context.WithCancel(ctx)
	f := &simFleet{m: m, slots: make(chan struct{}, 32), say: b.say}
	defer f.wg.Wait()
	defer cancel()
	for i := range simProjects {
		if _, _, err := m.people[i%simPeople].Put(ctx, &api.Project{Header: api.Header{Kind: api.KindProject, Metadata: api.Metadata{Name: simProject(i)}}}); err != nil {
			return nil, err
		}
	}
	services := 0
	for _, n := range simSizes(b.agents) {
		more, err := f.at(inner, n, &services)
		if err != nil {
			return rows, err
		}
		rows = append(rows, more...)
	}
	more, err := f.busy(inner, services)
	if rows = append(rows, more...); err != nil {
		return rows, err
	}
	more, err = f.converge(inner)
	rows = append(rows, more...)
	return append(rows, figures.Row{ID: "P8.broken", What: "streams that ended and reports that were refused, of all agents, all the time", Value: float64(f.broken.Load()), Unit: "times"}), err
}

// at grows the cluster to n agents with two pods each, and looks at what the master takes at rest.
func (f *simFleet) at(ctx context.Context, n int, services *int) ([]figures.Row, error) {
	start := time.Now()
	if err := f.grow(ctx, n); err != nil {
		return nil, err
	}
	if err := f.until(ctx, func() error { return want("connected agents", f.connected.Load(), n) }); err != nil {
		return nil, err
	}
	connected := time.Since(start)
	for ; *services < n/5; *services++ {
		if _, _, err := f.m.people[*services%simPeople].Put(ctx, simulated(*services, simReplicas)); err != nil {
			return nil, err
		}
	}
	if err := f.until(ctx, func() error { return want("pods at agents", f.pods(), *services*simReplicas) }); err != nil {
		return nil, err
	}
	placed := time.Since(start) - connected
	if err := sleep(ctx, simSettle); err != nil {
		return nil, err
	}
	cpu, p, err := f.m.cpu(ctx, func() error { return sleep(ctx, simWindow) })
	f.say("P8: %d agents joined and connected after %.1f s, %d pods run %.1f s later; at rest the master takes %.1f %% of a core, %.0f MiB", n, connected.Seconds(), *services*simReplicas, placed.Seconds(), cpu, p.pss)
	id, what := fmt.Sprint("P8.", n), fmt.Sprintf("with %d connected agents and %d pods, ", n, *services*simReplicas)
	return []figures.Row{
		{ID: id + ".join", What: what + "time until the last ones had joined and were connected", Value: connected.Seconds(), Unit: "s"},
		figures.Row{ID: id + ".memory", What: what + "the master's memory (PSS)", Value: p.pss, Unit: "MiB"}.AtMost(simMemory),
		figures.Row{ID: id + ".idle", What: what + "the master's CPU at rest", Value: cpu, Unit: "% of a core"}.AtMost(simIdle),
	}, err
}

// want compares a number with the one that is waited for.
func want[T int | int64](what string, have T, n int) error {
	if int(have) != n {
		return fmt.Errorf("there are %d %s, want %d", have, what, n)
	}
	return nil
}

func (f *simFleet) until(ctx context.Context, ok func() error) error {
	return story.Until(ctx, 3*time.Minute, ok)
}

// pods counts the pods that agents were told of and that are not to end.
func (f *simFleet) pods() (n int) {
	for _, a := range f.agents {
		a.mu.Lock()
		for _, p := range a.pods {
			if !p.Metadata.Deleting {
				n++
			}
		}
		a.mu.Unlock()
	}
	return n
}

// busy reads and writes for a while.
func (f *simFleet) busy(ctx context.Context, services int) ([]figures.Row, error) {
	var r *simTimes
	before, err := f.m.waited()
	if err != nil {
		return nil, err
	}
	cpu, p, err := f.m.cpu(ctx, func() (err error) { r, err = f.load(ctx, services); return err })
	if err != nil {
		return nil, err
	}
	after, err := f.m.waited()
	if err != nil {
		return nil, err
	}
	if len(r.Reads) == 0 || len(r.Writes) == 0 {
		return nil, fmt.Errorf("none of the reads or none of the writes had an answer: %s", r.First)
	}
	if r.Failed > 0 {
		f.say("P8: %d requests had no good answer; the first: %v", r.Failed, r.First)
	}
	with := fmt.Sprintf("%d agents on the same %d processors, %d writes/s, %d reads/s: ", len(f.agents), runtime.NumCPU(), simWrites, simReads)
	ms := func(id, what string, took []time.Duration, of int) figures.Row {
		return figures.Row{ID: id, What: with + what, Value: percentile(took, of), Unit: "ms"}
	}
	return []figures.Row{
		ms("P8", "a read from when it is due to its answer, p99", r.Reads, 99).AtMost(simReadP99), ms("P8.read50", "a read, median", r.Reads, 50),
		ms("P8.write", "a write from when it is due to its answer, p99", r.Writes, 99).AtMost(simWriteP99), ms("P8.write50", "a write, median", r.Writes, 50),
		figures.Row{ID: "P8.failed", What: with + "requests without a good answer", Value: float64(r.Failed), Unit: "requests"}.WithGoal("0 requests", r.Failed == 0),
		figures.Row{ID: "P8.memory", What: with + "the master's memory (PSS)", Value: p.pss, Unit: "MiB"}.AtMost(simMemory),
		{ID: "P8.cpu", What: with + "the master's CPU", Value: cpu, Unit: "% of a core"},
		{ID: "P8.wait", What: with + "its threads ready but without a processor, which the agents and whatever else runs here had", Value: 100 * (after - before).Seconds() / simLoad.Seconds(), Unit: "% of a core"},
	}, nil
}

// converge looks how long it takes from a write until all that it concerns have it: the agents of a service's pods, which run
// them and have said so; and every agent, for a name that all know.
func (f *simFleet) converge(ctx context.Context) ([]figures.Row, error) {
	var run, known []time.Duration
	for i := range simProbes {
		if err := sleep(ctx, time.Second); err != nil {
			return nil, err
		}
		s := simulated(1_000_000+i, simProbe)
		n := &needle{text: fmt.Appendf(nil, `"name":%q`, s.Metadata.Name)}
		f.needle.Store(n)
		start := time.Now()
		if _, _, err := f.m.people[0].Put(ctx, s); err != nil {
			return nil, err
		}
		var ran, knew time.Duration
		err := quickly(ctx, func() (bool, error) {
			if knew == 0 && int(n.found.Load()) == len(f.agents) {
				knew = time.Since(start)
			}
			if ran == 0 {
				now, err := client.Get[api.Service](ctx, f.m.people[1+i%(simPeople-1)], s.Metadata.Project, s.Metadata.Name)
				if err != nil {
					return false, err
				}
				if now.Status.Ready == simProbe {
					ran = time.Since(start)
				}
			}
			return ran > 0 && knew > 0, nil
		})
		if err != nil {
			return nil, fmt.Errorf("a new service: %w (%d of %d agents know its name)", err, n.found.Load(), len(f.agents))
		}
		run, known = append(run, ran), append(known, knew)
	}
	return []figures.Row{
		figures.Times("P8.run", fmt.Sprintf("a service of %d pods is written → each runs on its agent and the API says so", simProbe), run),
		figures.Times("P8.known", fmt.Sprintf("a service is written → every one of %d agents knows its name", len(f.agents)), slices.Clone(known)),
	}, nil
}

// quickly asks again and again until it is done.
func quickly(ctx context.Context, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}
