package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/story"
)

// flush empties the tables of the host.
const flush = `for t in nat filter mangle raw; do iptables -t $t -F; done; `

// deleteChains empties tables and deletes their chains, in one step each: between two, an agent may have laid
// its rules again, and chains that are in use cannot be deleted.
func deleteChains(tables string) string {
	return "for t in " + tables + `; do printf "*%s\n-F\n-X\nCOMMIT\n" $t | iptables-restore --noflush; done; `
}

// inPods does something in the namespace of each pod of the host.
func inPods(do string) string {
	return "for n in /run/netns/gear-*; do nsenter --net=$n sh -c '" + do + "'; done"
}

// useVariant makes iptables another one, as an administrator does who then restarts what has rules. The rules of the old one
// are taken away, as they are by a reboot, while no agent lays them again.
const useVariant = `
systemctl stop gear-agent.service
for t in nat filter mangle raw; do iptables -t $t -F; iptables -t $t -X; ip6tables -t $t -F; ip6tables -t $t -X; done
for n in /run/netns/gear-*; do nsenter --net=$n sh -c 'for t in nat filter; do iptables -t $t -F; iptables -t $t -X; done'; done
update-alternatives --set iptables /usr/sbin/iptables-$1; update-alternatives --set ip6tables /usr/sbin/ip6tables-$1
systemctl reset-failed docker gear-agent; systemctl restart docker.service; systemctl start gear-agent.service`

// firewalls are the ways in which others flush and rewrite the rules. id is what is added to the name of a variant.
func firewalls() []neighbour {
	return []neighbour{
		{"flush", "iptables flushed, all tables", flush},
		{"delete", "chains deleted", deleteChains("nat filter") + "systemctl reload docker"},
		{"reload", "all tables restored from a file of no rules, as firewalld does",
			`for t in raw mangle nat filter; do printf '*%s\nCOMMIT\n' $t; done >/tmp/none; iptables-restore </tmp/none; ip6tables-restore </tmp/none`},
		{"lock", "flushed, and the lock of iptables held for 3 s", flush + `flock /run/xtables.lock sleep 3`},
		{"pods", "iptables flushed in the namespaces of all pods", inPods(flush)},
		{"pods.delete", "the same, and chains deleted", inPods(deleteChains("raw nat filter"))},
		{"docker", "dockerd restarted, which rewrites its chains", `systemctl reset-failed docker; systemctl restart docker.service`},
	}
}

// rulesBack does all that to the target as it is.
func rulesBack(ctx context.Context, r *rig) ([]figures.Row, error) {
	return r.rewrite(ctx, "F21.", "")
}

// rulesBackLegacy does it to a target that has iptables-legacy, and gives it back what it had.
func rulesBackLegacy(ctx context.Context, r *rig) (rows []figures.Row, err error) {
	defer func() {
		_, back := r.sh(ctx, target, useVariant, "nft")
		err = errors.Join(err, back)
	}()
	want, err := r.ourRules(ctx)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if _, err := r.sh(ctx, target, useVariant, "legacy"); err != nil {
		return nil, err
	}
	if err := r.rulesAre(ctx, want, "the change to iptables-legacy"); err != nil {
		return nil, err
	}
	rows = append(rows, figures.Times("F21.legacy", "iptables-nft → iptables-legacy, dockerd and the agent restarted → rules in the new one",
		[]time.Duration{time.Since(start)}))
	more, err := r.rewrite(ctx, "F21.legacy.", "with iptables-legacy: ")
	return append(rows, more...), err
}

func (r *rig) rewrite(ctx context.Context, id, how string) ([]figures.Row, error) {
	var rows []figures.Row
	for _, f := range firewalls() {
		want, err := r.ourRules(ctx)
		if err != nil {
			return rows, err
		}
		if want == "" {
			return rows, fmt.Errorf("%s has no rules before %s: this shows nothing", target, f.what)
		}
		start := time.Now()
		if _, err := r.sh(ctx, target, f.script); err != nil {
			return rows, err
		}
		if err := r.rulesAre(ctx, want, f.what); err != nil {
			return rows, err
		}
		took := time.Since(start)
		if f.id == "lock" {
			took -= 3 * time.Second // nobody could write rules while it was held
		}
		rows = append(rows, figures.Times(id+f.id, how+f.what+" → rules as they were", []time.Duration{took}).AtMost(5000))
	}
	return rows, nil
}

// rulesAre waits until the rules are as they were.
func (r *rig) rulesAre(ctx context.Context, want, after string) error {
	return story.Until(ctx, story.Patience, func() error {
		have, err := r.ourRules(ctx)
		if err == nil && have != want {
			err = fmt.Errorf("after %s the rules are\n%s\nand were\n%s", after, have, want)
		}
		return err
	})
}

// ourRules gives the rules of Gearmesh on the target and in its pods, as netfilter has them.
func (r *rig) ourRules(ctx context.Context) (string, error) {
	return r.sh(ctx, target, `for n in /proc/1/ns/net /run/netns/gear-*; do for t in raw mangle nat filter; do
nsenter --net=$n iptables-save -t $t | grep GEAR- | grep -v '^:' | sed "s|^|${n##*/} $t |"; done; done | sort`)
}
