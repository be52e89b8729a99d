// Command bench is make bench: it boots a lab of its own, starts Gearmesh on it by the commands
// that a user has, and measures it beside a peer in the same run on the same host.
//
// Each figure is the median of -runs runs, which take turns with their peer's, so that both see
// the same noise. A goal that is missed is printed as missed; no figure makes the command fail.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/lab"
)

func main() { figures.Main("bench", run) }

// options are the command's flags.
type options struct {
	figures.Options
	runs       int
	parallel   int
	hosts      int
	agents     int
	seed       uint64
	cluster    string
	serveNames bool
	beClient   bool

	isolated, isolatedDir string
}

func parse(args []string, usage io.Writer) (options, error) {
	o := options{Options: figures.Options{Bin: "bin", Lab: "bench"}}
	f := o.Flags("bench", usage)
	f.IntVar(&o.runs, "runs", 5, "runs whose median counts; P11 takes at most 3")
	f.IntVar(&o.parallel, "parallel", 0, "containers that P2 starts at once; 0: 50, or 20 on a busy machine")
	f.IntVar(&o.hosts, "hosts", 0, "hosts of P4; 0: as many as fit, 3 to 20")
	f.IntVar(&o.agents, "agents", 5000, "simulated agents of P8")
	f.BoolVar(&o.serveNames, "serve-names", false, "be the DNS server that P6 measures")
	f.BoolVar(&o.beClient, "be-client", false, "be the process that reads and writes for P8, as standard input says")
	f.StringVar(&o.isolated, "isolated", "", "be the part with that name, in a network of its own")
	f.StringVar(&o.isolatedDir, "isolated-dir", "", "folder of that part")
	f.Uint64Var(&o.seed, "seed", 1, "of the cluster that P7 generates")
	f.StringVar(&o.cluster, "cluster", "", "`file` with a recorded cluster for P7: {\"hosts\": […], \"services\": […], \"pods\": […]}, as gear get -o json gives them")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 || o.runs < 1 || o.parallel < 0 || o.hosts < 0 || o.hosts > lab.MaxHosts || o.agents < 10 {
		return o, fmt.Errorf("bad arguments %q: want flags alone, -runs of 1 or more, -parallel of 0 or more and -hosts of 0 to %d and -agents of 10 or more", args, lab.MaxHosts)
	}
	return o, nil
}

type part = figures.Part[*bench]

func parts() []part {
	return []part{{ID: "P1", Do: measureStart}, {ID: "P2", Do: measureMany}, {ID: "P3", Do: measureServe}, {ID: "P4.pods", Alone: true, Do: measureRelink},
		{ID: "P5", Alone: true, Do: measurePath}, {ID: "P6", Alone: true, Do: measureNames}, {ID: "P7", Alone: true, Do: measureSchedule}, {ID: "P8", Alone: true, Do: measureMaster}, {ID: "P8.leader", Alone: true, Do: measureLeader}, {ID: "P9", Do: measureIdle},
		{ID: "P4", Do: measureRetarget}, {ID: "P11", Do: measurePowerOff}} // the last ones: they may make more hosts
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	o, err := parse(args, progress)
	if err != nil {
		return err
	}
	if o.serveNames {
		return serveNames(ctx)
	}
	if o.beClient {
		return beClient(ctx, os.Stdin, out)
	}
	if o.isolated != "" {
		return beIsolated(ctx, o, out, progress)
	}
	chosen, err := figures.Pick(parts(), o.Only)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(chosen, func(p part) bool { return !p.Alone }) {
		b := &bench{runs: o.runs, seed: o.seed, cluster: o.cluster, agents: o.agents, geard: filepath.Join(o.Bin, "geard"), say: func(format string, args ...any) { fmt.Fprintf(progress, "  "+format+"\n", args...) }}
		return b.measure(ctx, chosen, o.Out, out)
	}
	w, err := o.World(lab.Config{Packages: peerPackages()}, progress)
	if err != nil {
		return err
	}
	b := &bench{world: w, runs: o.runs, parallel: o.parallel, hosts: o.hosts, seed: o.seed, cluster: o.cluster, agents: o.agents, geard: filepath.Join(o.Bin, "geard"), say: w.Say}
	return o.Within(ctx, w.Lab, func() error {
		if err := b.boot(ctx); err != nil {
			return err
		}
		return b.measure(ctx, chosen, o.Out, out)
	})
}

// measure goes through the parts, after a line about the machine.
func (b *bench) measure(ctx context.Context, chosen []part, file string, out io.Writer) error {
	machine, err := b.machine(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, machine)
	do := func(ctx context.Context, p part) ([]figures.Row, error) { return p.Do(ctx, b) }
	return figures.Each(ctx, chosen, do, "go run ./contrib/bench -only ", file, out)
}
