// Command faults is make faults: it boots a lab of its own, starts Gearmesh and the guestbook on it by
// the commands that a user has, does harm to it, and looks whether what the docs promise holds.
//
// What counts is read out of band: from docker, systemctl, iptables-save, the journal and the disk, not
// from Gearmesh's own word. After each fault the invariants are looked at too (look.go). A bound that
// is missed is printed as missed; no figure makes the command fail, only a fault that could not be done.
package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/lab"
	"gearmesh.dev/internal/failpoint"
)

func main() { figures.Main("faults", run) }

// options are the command's flags.
type options struct {
	figures.Options
	scale int
	loss  time.Duration
	fake  bool
}

func parse(args []string, usage io.Writer) (options, error) {
	o := options{Options: figures.Options{Bin: "bin/failpoints", Lab: "faults"}}
	f := o.Flags("faults", usage)
	f.BoolVar(&o.fake, "serve-fake", false, "be the fake registry of F20, inside a host of the lab")
	f.IntVar(&o.scale, "scale", 200, "how many times F10 creates and deletes; the docs' bound is for 1000")
	f.DurationVar(&o.loss, "loss", time.Minute, "how long F17 loses packets; the docs' bound is for 10m")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 || o.scale < 1 || o.loss <= 0 {
		return o, fmt.Errorf("bad arguments %q: want flags alone, -scale of 1 or more, and -loss above 0", args)
	}
	return o, nil
}

type fault = figures.Part[*rig]

func faults() []fault {
	return []fault{
		{ID: "F1", Do: loseThePower}, {ID: "F2", Do: killAgent}, {ID: "F3", Do: killMaster}, {ID: "F4", Do: rebootAlone},
		{ID: "F5", Do: cutSingleton}, {ID: "F6", Do: stopSingletonsAgent}, {ID: "F7", Do: killEngine}, {ID: "F8", Do: killSupervisors}, {ID: "F10", Do: churn}, {ID: "F11", Do: deleteWhileOff},
		{ID: "F15", Do: gossip}, {ID: "F16", Do: wrongTokens}, {ID: "F17", Do: loseDatagrams}, {ID: "F18", Do: harmDisk}, {ID: "F19", Do: badPods},
		{ID: "F20", Do: badRegistry}, {ID: "F21", Do: restartNeighbours}, {ID: "F21.legacy", Do: rulesBackLegacy}, {ID: "F22", Do: floods},
		// From here on there are three masters.
		{ID: "F9", Do: duplicateRequests}, {ID: "F12", Do: loseQuorum}, {ID: "F13", Do: splitMasters}, {ID: "F6.leader", Do: changeLeader}, {ID: "HIST", Do: writeThroughFaults},
	}
}

// diskMiB is the size of each host's own file system: the first host's holds etcd's log and store too.
const diskMiB = 512

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	o, err := parse(args, progress)
	if err != nil {
		return err
	}
	if o.fake {
		return serveFake(ctx)
	}
	chosen, err := figures.Pick(faults(), o.Only)
	if err != nil {
		return err
	}
	r, err := newRig(o, progress)
	if err != nil {
		return err
	}
	return o.Within(ctx, r.Lab, func() error {
		if err := r.boot(ctx); err != nil {
			return err
		}
		return figures.Each(ctx, chosen, r.one, "make faults ONLY=", o.Out, out)
	})
}

// newRig gives the rig with its lab, which is not booted yet.
func newRig(o options, progress io.Writer) (*rig, error) {
	self, err := filepath.Abs(filepath.Join(o.Bin, "faults")) // the hosts have it as the fake registry
	if err != nil {
		return nil, err
	}
	w, err := o.World(lab.Config{Disk: diskMiB}, progress, self)
	if err != nil {
		return nil, err
	}
	return &rig{World: w, scale: o.scale, loss: o.loss, say: w.Say, self: self, acked: ledger{"web": true, "db": true},
		cuts: failpoint.Host(), starts: failpoint.Host(), removals: failpoint.Removal()}, nil
}
