package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/story"
)

// What fills the target's own file system, and what empties it again.
const (
	fillBlocks = `fallocate -l $(($(df --output=avail -B1 /var/lib/gear | tail -1))) /var/lib/gear/filler 2>/dev/null || true
		dd if=/dev/zero of=/var/lib/gear/filler2 bs=4k 2>/dev/null || true`
	fillInodes = `mkdir -p /var/lib/gear/filler.d && cd /var/lib/gear/filler.d && seq 1 200000 | xargs touch 2>/dev/null || true`
	empty      = `rm -rf /var/lib/gear/filler /var/lib/gear/filler2 /var/lib/gear/filler.d`
)

// harmDisk is F18.
func harmDisk(ctx context.Context, r *rig) ([]figures.Row, error) {
	var rows []figures.Row
	for _, full := range []neighbour{{"F18.full", "disk full", fillBlocks}, {"F18.inodes", "no inode left", fillInodes}} {
		got, err := r.fillDisk(ctx, full)
		rows = append(rows, got...)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", full.what, err)
		}
	}
	got, err := r.damageState(ctx)
	rows = append(rows, got...)
	if err != nil {
		return rows, err
	}
	got, err = r.failDisk(ctx)
	return append(rows, got...), err
}

// state sums up the files that a host is restored from, without the directory of endpoints, which comes and goes.
func (r *rig) state(ctx context.Context) (string, error) {
	return r.sh(ctx, target, `cd /var/lib/gear && find pods agent/identity.json /etc/systemd/system/gear-guestbook* -type f -not -name links.json -print0 | sort -z | xargs -0 sha256sum
		grep -c . agent/desired.json >/dev/null && echo "desired.json has text"`)
}

// fillDisk fills the disk and asks for new work: it is refused with a reason, the old state stays, and
// the work is done when there is room again.
func (r *rig) fillDisk(ctx context.Context, n neighbour) ([]figures.Row, error) {
	before, err := r.state(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := r.sh(ctx, target, n.script); err != nil {
		return nil, err
	}
	reason, refused := r.refusal(ctx)
	after, err := r.state(ctx)
	if _, emptyErr := r.sh(ctx, target, empty); err == nil {
		err = emptyErr
	}
	if err = errors.Join(refused, err); err != nil {
		return nil, err
	}
	changed := 0 // what a refused save has left is no pod, and is cleaned
	for line := range strings.Lines(before) {
		if !strings.Contains(after, line) {
			r.say("%s: no longer: %s", n.id, strings.TrimSpace(line))
			changed++
		}
	}
	start := time.Now()
	if err := r.runs(ctx, "victim", target, 1); err != nil {
		return nil, err
	}
	took := time.Since(start)
	return []figures.Row{
		figures.Row{ID: n.id, What: n.what + ": files of the old state that changed; new work is refused with " + reason, Value: float64(changed), Unit: "files"}.WithGoal("0 files", changed == 0),
		figures.Times(n.id+".back", n.what+", and room again → the work is done", []time.Duration{took}),
	}, r.remove(ctx, "victim")
}

// refusal asks for a pod on the target and gives the reason by which it is not run.
func (r *rig) refusal(ctx context.Context) (reason string, err error) {
	if _, err := r.Apply(ctx, service("victim", target), "--no-wait"); err != nil {
		return "", err
	}
	err = story.Until(ctx, 20*time.Second, func() error {
		reason, err = r.complaint(ctx)
		return err
	})
	if err != nil {
		return "", err
	}
	if n, err := r.running(ctx, "victim", target); err != nil || n > 0 {
		return "", fmt.Errorf("%d containers run although their state is on no disk: %w", n, err)
	}
	return reason, nil
}

// complaint gives the reason of a condition of the target, or of the status of the pod, that speaks of the disk.
func (r *rig) complaint(ctx context.Context) (string, error) {
	var h api.Host
	if err := r.JSON(ctx, &h, "get", "host", target); err != nil {
		return "", err
	}
	said := []api.Condition{{Reason: h.Status.Reason, Message: h.Status.Message}}
	pods, err := r.Pods(ctx, "victim")
	if err != nil {
		return "", err
	}
	for _, p := range pods {
		said = append(said, api.Condition{Reason: p.Status.Reason, Message: p.Status.Message})
	}
	for _, c := range said {
		for _, word := range []string{"no space left", "read-only file system", "input/output error"} {
			if strings.Contains(c.Message, word) {
				return string(c.Reason) + " (" + word + ")", nil
			}
		}
	}
	return "", fmt.Errorf("neither the host nor the pod says what is wrong: %+v", said)
}

// damages are ways to spoil a file; $f is the file.
var damages = []neighbour{
	{"cut", "cut short", `truncate -s $(($(stat -c %s "$f") / 2)) "$f"`},
	{"empty", "empty", `: >"$f"`},
	{"zeros", "zeros", `s=$(stat -c %s "$f"); head -c $s /dev/zero >"$f"`},
	// Of a unit its head stays, which says whose it is: without it the file counts as the operator's, and is left alone.
	{"other", "another text", `head=$(sed -n '/^#/!q;p' "$f"); { [ -z "$head" ] || echo "$head"; echo '["x"]'; } >"$f"`},
}

// damageState spoils the agent's files in turn, and the agent dies: all is made anew, and nothing is touched.
func (r *rig) damageState(ctx context.Context) ([]figures.Row, error) {
	before, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	var took []time.Duration
	for _, file := range []string{"/var/lib/gear/agent/desired.json", "/var/lib/gear/pods/$uid/pod.json", "/var/lib/gear/pods/$uid/net.json", "/var/lib/gear/pods/$uid/links.json",
		"/var/lib/gear/agent/hostrules.json", "/etc/systemd/system/gear-guestbook-$pod.service"} {
		for _, d := range damages {
			start := time.Now()
			if err := r.spoil(ctx, file, d.script); err != nil {
				return nil, fmt.Errorf("%s, %s: %w", file, d.what, err)
			}
			took = append(took, time.Since(start))
		}
	}
	changed, err := r.changed(ctx, "F18", before, view.residue)
	if err != nil {
		return nil, err
	}
	return []figures.Row{
		figures.Row{ID: "F18.corrupted", What: fmt.Sprintf("%d damages to state files, the agent killed after each: hosts with a container that changed", len(took)), Value: changed, Unit: "hosts"}.
			WithGoal("0 hosts", changed == 0),
		figures.Times("F18.rebuilt", "a damaged file → it is right again, slowest", took).Slowest(),
	}, nil
}

// spoil damages a file of the ticker's pod, kills the agent, and waits until the file has its text again. Of a
// desired.json, links.json or hostrules.json the text changes by itself; there any text in full counts.
func (r *rig) spoil(ctx context.Context, file, script string) error {
	out, err := r.sh(ctx, target, `
		set -- $(docker ps -q -f label=dev.gearmesh.service=ticker | xargs docker inspect -f '{{index .Config.Labels "dev.gearmesh.uid"}} {{index .Config.Labels "dev.gearmesh.pod"}}')
		uid=$1; pod=$2; f="`+file+`"; cp -a "$f" /run/spoilt
		`+script+`
		systemctl kill -s KILL gear-agent.service; echo "$f"`)
	if err != nil {
		return err
	}
	return story.Until(ctx, 30*time.Second, func() error {
		// net.json has a copy, which is used instead of it: nobody writes it anew.
		_, err := r.sh(ctx, target, `case $1 in
			*/net.json) cmp "${1%.json}.copy.json" /run/spoilt; cp -a /run/spoilt "$1" ;;
			*.service) cmp "$1" /run/spoilt ;;
			*) [ $(stat -c %s "$1") -gt $(($(stat -c %s /run/spoilt) * 2 / 3)) ] && ! grep -q -P '\x00' "$1" && ! grep -q '^\["x"\]' "$1" ;;
			esac && systemctl is-active -q gear-agent.service`, strings.TrimSpace(out))
		return err
	})
}

// failDisk makes the disk fail: every access gives an error of input and output. After it comes a reboot.
func (r *rig) failDisk(ctx context.Context) ([]figures.Row, error) {
	before, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.Lab.FailDisk(ctx, target); err != nil {
		return nil, err
	}
	reason, refused := r.refusal(ctx)
	ids, err := r.sh(ctx, target, `docker ps -q --no-trunc | sort`)
	kept := 0
	for _, c := range before[target].containers {
		if strings.Contains(ids, c.id) {
			kept++
		}
	}
	lost := len(before[target].containers) - kept
	r.mayChange[target] = true
	if err = errors.Join(refused, err, r.Lab.PowerOff(ctx, target), r.Lab.Boot(ctx, target)); err != nil {
		return nil, err
	}
	if err := r.runs(ctx, "victim", target, 1); err != nil {
		return nil, err
	}
	return []figures.Row{
		figures.Row{ID: "F18.eio", What: "the disk gives errors: containers that ended; new work is refused with " + reason, Value: float64(lost), Unit: "containers"}.WithGoal("0 containers", lost == 0),
	}, r.remove(ctx, "victim")
}
