package install

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gearmesh.dev/api"
	systemdunits "gearmesh.dev/contrib/systemd"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/internal/systemd"
	"gearmesh.dev/unitgen"
)

// EjectOptions say how to take Gearmesh off this host.
type EjectOptions struct {
	Options
	// WithMaster removes a master that runs here too. Its store stays on disk.
	WithMaster bool
}

// Ejection is what Eject would do, for people to read before they say yes.
type Ejection struct {
	Host  api.Name // as the cluster calls it
	Goes  []string
	Stays []string
}

// PlanEject tells what Eject would take away and what it would leave. It changes nothing.
func PlanEject(o EjectOptions) (Ejection, error) {
	e, err := newEjecter(o)
	if err != nil {
		return Ejection{}, err
	}
	out := Ejection{Host: e.id.Name, Goes: e.doomed()}
	for _, p := range e.pods {
		if p.Singleton() {
			out.Goes = append(out.Goes, fmt.Sprintf("pod %s/%s: a singleton, which its timer ends %s after the agent; another host gets it", p.Metadata.Project, p.Metadata.Name, api.SingletonLease))
			continue
		}
		out.Stays = append(out.Stays, fmt.Sprintf("pod %s/%s: %s", p.Metadata.Project, p.Metadata.Name, strings.Join(unitgen.Wants(p), ", ")))
	}
	out.Stays = append(out.Stays, "the pods' links and host ports, as they are now; also after a reboot")
	if e.routes() {
		out.Stays = append(out.Stays, systemdunits.HAProxy+", with the configuration it has now")
	}
	if e.balances() {
		out.Stays = append(out.Stays, systemdunits.Links+", with the balanced links as they are now")
	}
	if !o.WithMaster && e.has(systemdunits.Master) {
		out.Stays = append(out.Stays, systemdunits.Master+" (--master removes it too)")
	}
	out.Stays = append(out.Stays, "the binaries in "+binDir+", which the pods' units run",
		"this host's identity, in "+AgentDir+": gear up or gear join take the pods over again")
	return out, nil
}

// Eject takes Gearmesh's daemons and their units off this host. Pods run on as what they are, units of systemd: with their
// links, host ports and volumes, also over a reboot. It can be run again.
func Eject(ctx context.Context, o EjectOptions) (Report, error) {
	e, err := newEjecter(o)
	if err != nil {
		return Report{}, err
	}
	return runSteps(ctx, e.Progress, []step{
		{name: "root", do: e.root},
		{name: "what boots the pods", do: e.boot},
		{name: "other hosts", do: e.detach},
		{name: "daemons", do: e.stop},
		{name: "units", do: e.remove},
	})
}

// ejecter carries what there is on the host.
type ejecter struct {
	*installer
	id         Identity
	pods       []api.Pod
	withMaster bool
}

func newEjecter(o EjectOptions) (*ejecter, error) {
	root := o.Root
	if root == "" {
		root = "/"
	}
	id, err := LoadIdentity(filepath.Join(root, AgentDir))
	if err != nil {
		return nil, err
	}
	o.Name, o.Address = id.Name, id.Address
	i, err := o.complete()
	if err != nil {
		return nil, err
	}
	e := &ejecter{installer: i, id: id, withMaster: o.WithMaster}
	e.pods, err = podsOf(e.dirs())
	return e, err
}

func (e *ejecter) dirs() podstate.Dirs {
	d := podstate.Host()
	return podstate.Dirs{State: e.path(d.State), Run: e.path(d.Run)}
}

// podsOf reads the pods on disk. One that cannot be read ends it: its units would be left to nobody's knowledge.
func podsOf(dirs podstate.Dirs) ([]api.Pod, error) {
	uids, err := dirs.Pods()
	if err != nil {
		return nil, err
	}
	var out []api.Pod
	for _, uid := range uids {
		p, err := dirs.LoadPod(uid)
		if podstate.Missing(err) {
			continue // the rest of a save that was cut short
		}
		if err != nil {
			return nil, fmt.Errorf("%w; gear host repair, or move the directory away", err)
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b api.Pod) int { return strings.Compare(a.Key().String(), b.Key().String()) })
	return out, nil
}

func (e *ejecter) unitDir() string { return e.path(systemd.UnitDir) }

func (e *ejecter) has(unit string) bool { return e.exists(filepath.Join(systemd.UnitDir, unit)) }

// routes tells whether this host has been a router.
func (e *ejecter) routes() bool {
	return systemd.Wanted(e.unitDir(), systemdunits.Target, systemdunits.Router) || systemd.Wanted(e.unitDir(), systemdunits.Target, systemdunits.HAProxy)
}

// balances tells whether a pod of this host has a balanced link. Its network's unit wants the HAProxy of links, also at boot.
func (e *ejecter) balances() bool {
	return slices.ContainsFunc(e.pods, func(p api.Pod) bool {
		return slices.ContainsFunc(p.Spec.Template.Links, func(l api.Link) bool { return l.Mode == api.LinkBalanced })
	})
}

// doomed gives the units that go. Those of HAProxy stay where there is something for them to serve.
func (e *ejecter) doomed() []string {
	units := []string{systemdunits.Agent, systemdunits.Router}
	if e.withMaster {
		units = append(units, systemdunits.Master)
	}
	if !e.routes() {
		units = append(units, systemdunits.HAProxy)
	}
	if !e.balances() {
		units = append(units, systemdunits.Links)
	}
	return slices.DeleteFunc(units, func(u string) bool { return !e.has(u) })
}

func (e *ejecter) root(context.Context) (string, error) {
	if e.Root == "/" && os.Geteuid() != 0 {
		return "", errors.New("root is needed; run it again with sudo")
	}
	return "", nil
}

// boot makes sure that the host can do without the agent: what starts at boot is linked into gear.target, and the host's
// own rules are on disk, from where the first pod's network lays them.
func (e *ejecter) boot(ctx context.Context) (string, error) {
	if len(e.pods) > 0 && !e.exists(podstate.Host().HostRules()) {
		return "", fmt.Errorf("the host's rules are not on disk (%s), so no host port would come back after a reboot; let the agent run until gear plan --local has nothing to say", podstate.Host().HostRules())
	}
	var did []string
	for _, p := range e.pods {
		for _, unit := range unitgen.Wants(p) {
			if !e.has(unit) {
				return "", fmt.Errorf("pod %s/%s lacks its unit %s; run gear host repair --local first", p.Metadata.Project, p.Metadata.Name, unit)
			}
			if !systemd.Wanted(e.unitDir(), unitgen.Target, unit) {
				did = append(did, unit)
			}
		}
		if err := systemd.Want(e.unitDir(), unitgen.Target, unitgen.Wants(p)); err != nil {
			return "", err
		}
	}
	if e.routes() && !systemd.Wanted(e.unitDir(), systemdunits.Target, systemdunits.HAProxy) {
		if err := systemd.Want(e.unitDir(), systemdunits.Target, []string{systemdunits.HAProxy}); err != nil {
			return "", err
		}
		did = append(did, systemdunits.HAProxy)
	}
	if _, err := e.Runner.Run(ctx, "systemctl", "--quiet", "is-enabled", systemdunits.Target); err != nil {
		if err := e.systemctl(ctx, "enable", systemdunits.Target); err != nil {
			return "", err
		}
		did = append(did, systemdunits.Target)
	}
	return sentence("enabled %s", did), nil
}

// detach lets the agent tell the other hosts that this one goes on serving without it; they would take its endpoints for
// dead otherwise. Where no agent runs there is nobody to tell them.
func (e *ejecter) detach(ctx context.Context) (string, error) {
	if _, err := e.Runner.Run(ctx, "systemctl", "--quiet", "is-active", systemdunits.Agent); err != nil {
		return "", nil //nolint:nilerr // no agent runs: there is nobody to tell them
	}
	resp, err := e.askAgent(ctx, http.MethodPost, "/v1/detach")
	if err != nil {
		return "", fmt.Errorf("telling the other hosts: %w; see why with: journalctl -u gear-agent -n 30", err)
	}
	if err := resp.Body.Close(); err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusNoContent {
		return "", fmt.Errorf("telling the other hosts: the agent answers %s", resp.Status)
	}
	return "they keep what leads to this host", nil
}

// stop stops the daemons. None of them is tied to a pod.
func (e *ejecter) stop(ctx context.Context) (string, error) {
	var did []string
	for _, u := range e.doomed() {
		for _, verb := range []string{"disable", "stop"} {
			if err := e.systemctl(ctx, verb, u); err != nil {
				return "", err
			}
		}
		did = append(did, u)
	}
	return sentence("stopped %s", did), nil
}

func (e *ejecter) remove(ctx context.Context) (string, error) {
	units := e.doomed()
	if len(units) == 0 {
		return "", nil
	}
	if err := systemd.RemoveUnits(e.unitDir(), units); err != nil {
		return "", err
	}
	if _, err := e.Runner.Run(ctx, "systemctl", "daemon-reload"); err != nil {
		return "", err
	}
	return sentence("removed %s", units), nil
}
