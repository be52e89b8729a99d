package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/story"
)

// What makes an agent that does not start at boot, as an operator would, and what undoes it. The first is synced: what
// follows is a power cut.
const (
	withoutAgent = `mv /etc/systemd/system/gear-agent.service /root/ && ln -s /dev/null /etc/systemd/system/gear-agent.service && sync`
	withAgent    = `rm /etc/systemd/system/gear-agent.service && mv /root/gear-agent.service /etc/systemd/system/ && systemctl daemon-reload && systemctl start gear-agent.service`
)

// cutAll is the rest of F1: the power of all hosts goes, and one alone comes back, without its agent. Its containers,
// links and host ports come back from its disk; later the others and the agent find them as they should be.
func cutAll(ctx context.Context, r *rig) ([]figures.Row, error) {
	for _, h := range hosts() {
		r.mayChange[h] = true
	}
	if _, err := r.sh(ctx, target, withoutAgent); err != nil {
		return nil, err
	}
	if err := r.Lab.PowerCut(ctx, hosts()...); err != nil {
		return nil, err
	}
	if err := r.Lab.Boot(ctx, target); err != nil {
		return nil, err
	}
	bad, err := r.badUnits(ctx)
	if err != nil {
		return nil, err
	}
	if err := story.Until(ctx, time.Minute, func() error { return r.worksAlone(ctx) }); err != nil {
		return nil, fmt.Errorf("with no master, no peer and no agent: %w", err)
	}
	took, err := r.sinceDocker(ctx)
	if err != nil {
		return nil, err
	}
	restarts, err := r.withOthersAgain(ctx)
	return []figures.Row{
		figures.Times("F1.alone", "power cut of every host; one is back, without its agent → its containers, links and host ports work, after dockerd", []time.Duration{took}).AtMost(15000),
		figures.Row{ID: "F1.alone.units", What: "of it, units that were empty or masked", Value: float64(bad - 1), Unit: "units"}.WithGoal("0 units", bad == 1), // the agent's own
		figures.Row{ID: "F1.alone.after", What: "of it, containers that changed when agent, master and peers were back", Value: restarts, Unit: "hosts"}.WithGoal("0 hosts", restarts == 0),
	}, err
}

// worksAlone tells whether the target serves: its pods run, the web pod answers by its host port, and its count shows that
// its link leads to the database.
func (r *rig) worksAlone(ctx context.Context) error {
	if state, err := r.sh(ctx, target, `systemctl is-active gear-agent.service || true`); err != nil || strings.TrimSpace(state) == "active" {
		return fmt.Errorf("the agent is %s: %w", state, err)
	}
	for _, svc := range []string{"ticker", "db"} {
		if err := r.up(ctx, svc, target, 1); err != nil {
			return err
		}
	}
	_, err := r.sh(ctx, target, `
		uid=$(docker ps -q -f label=dev.gearmesh.service=ticker | xargs docker inspect -f '{{index .Config.Labels "dev.gearmesh.uid"}}')
		nsenter --net=/run/netns/gear-$uid timeout 5 bash -c 'exec 3<>/dev/tcp/127.0.0.1/6379; echo PING >&3; read -r answer <&3; [ "${answer%?}" = +PONG ]'
		for port in $(iptables-save -t nat | sed -n 's/^-A GEAR-PORTS .*--dport \([0-9]*\) .*:8080$/\1/p' | sort -u); do
			curl -sS -m 5 "http://$(hostname -I | cut -d' ' -f1):$port/" | grep -q 'visit [0-9]'
		done`)
	return err
}

// withOthersAgain brings the others back, and the target's agent, and counts hosts with a container that is not what it was on the target alone.
func (r *rig) withOthersAgain(ctx context.Context) (float64, error) {
	alone, err := r.lookAt(ctx, target)
	if err != nil {
		return 0, err
	}
	if err := r.Lab.Boot(ctx, "h1", "h3"); err != nil {
		return 0, err
	}
	if _, err := r.sh(ctx, target, withAgent); err != nil {
		return 0, err
	}
	if err := r.settle(ctx); err != nil {
		return 0, err
	}
	r.mayChange[target] = false
	defer func() { r.mayChange[target] = true }()
	before := view{target: alone}
	restarts, err := r.changed(ctx, "F1.alone", before)
	return restarts, errors.Join(err, before.residue())
}
