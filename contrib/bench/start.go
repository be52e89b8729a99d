package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/figures"
)

// dockerRun starts one container as a person would, and prints when the command was given and
// when dockerd says that the process was started. Both are this host's clock; the way into the
// host is not part of it.
const dockerRun = `
	start=$(date +%s%N)
	id=$(docker run -d --network "$1" "$2")
	echo $start $(docker inspect -f '{{.State.StartedAt}}' $id)
	docker rm -f $id >/dev/null`

// dockerRunMany starts many at once, and prints when the last one's process was started.
const dockerRunMany = `
	start=$(date +%s%N)
	for i in $(seq $1); do docker run -d --network host --name peer-$i "$2" sleep infinity >/dev/null & done; wait
	last=$(docker ps -q -f name=^peer- | xargs docker inspect -f '{{.State.StartedAt}}' | sort | tail -n 1)
	count=$(docker ps -q -f name=^peer- | wc -l)
	docker ps -aq -f name=^peer- | xargs docker rm -f >/dev/null
	[ $count = $1 ]
	echo $start $last`

// measureStart is P1: from the API call that makes a service to its process.
func measureStart(ctx context.Context, b *bench) ([]figures.Row, error) {
	var ours, bare, host, bridge []time.Duration
	for i := range b.runs + 1 {
		o, err := b.startOne(ctx, fmt.Sprintf("start-%d", i), api.Port{Port: 8080})
		if err != nil {
			return nil, err
		}
		n, err := b.startOne(ctx, fmt.Sprintf("bare-%d", i))
		if err != nil {
			return nil, err
		}
		h, err := b.peerStart(ctx, dockerRun, "host", webImage)
		if err != nil {
			return nil, err
		}
		b.say("P1 run %d: ours %v, without a port %v, docker run %v", i, o, n, h)
		if i > 0 { // the first one warms caches, for all
			ours, bare, host = append(ours, o), append(bare, n), append(host, h)
		}
	}
	// Not in between: the kernel takes about a second to clear up the network namespace of such a
	// container, and whoever makes one meanwhile waits for that.
	for range b.runs {
		br, err := b.peerStart(ctx, dockerRun, "bridge", webImage)
		if err != nil {
			return nil, err
		}
		bridge = append(bridge, br)
	}
	peers, err := measurePeers(ctx, b)
	if err != nil {
		return nil, err
	}
	hostRow := figures.Times("P1.host", "docker run -d --network host", host)
	return append([]figures.Row{
		figures.Times("P1", "container start: API call → process, image present", ours).Against("docker run on host network", hostRow.Value).NoMoreThan(1.10),
		figures.Times("P1.bare", "the same without a port: nothing for routers to do", bare).Against("docker run on host network", hostRow.Value),
		hostRow,
		figures.Times("P1.bridge", "docker run -d, on the bridge", bridge),
	}, peers...), nil
}

// startOne makes a service with one pod on the target, and gives the time from the call to the
// start of its process, as dockerd tells it.
func (b *bench) startOne(ctx context.Context, name string, ports ...api.Port) (time.Duration, error) {
	s := service(name, 1, web(), target)
	s.Spec.Ports = ports
	took, err := b.start(ctx, s, 1)
	if err != nil {
		return 0, err
	}
	return took, b.remove(ctx, s)
}

// start puts a service and gives the time from the call to the start of its last process.
func (b *bench) start(ctx context.Context, s *api.Service, n int) (time.Duration, error) {
	if _, err := b.api.Version(ctx); err != nil { // the connection is there, as a controller's is
		return 0, err
	}
	start := time.Now()
	if err := b.put(ctx, s); err != nil {
		return 0, err
	}
	pods, err := b.ready(ctx, string(s.Metadata.Name), n)
	if err != nil {
		return 0, err
	}
	last, err := b.lastStart(ctx, pods)
	return last.Sub(start), err
}

// lastStart asks dockerd when the last of the pods' processes was started.
func (b *bench) lastStart(ctx context.Context, pods []api.Pod) (time.Time, error) {
	var ids []string
	for _, p := range pods {
		for _, c := range p.Status.Containers {
			ids = append(ids, c.ID)
		}
	}
	out, err := b.sh(ctx, target, `docker inspect -f '{{.State.StartedAt}}' "$@"`, ids...)
	if err != nil {
		return time.Time{}, err
	}
	var last time.Time
	for _, line := range strings.Fields(out) {
		t, err := time.Parse(time.RFC3339Nano, line)
		if err != nil {
			return last, fmt.Errorf("docker inspect says that a container was started at %q: %w", line, err)
		}
		if t.After(last) {
			last = t
		}
	}
	return last, nil
}

// peerStart runs one of the scripts above in the target.
func (b *bench) peerStart(ctx context.Context, script string, args ...string) (time.Duration, error) {
	out, err := b.sh(ctx, target, script, args...)
	if err != nil {
		return 0, err
	}
	took, err := span(out)
	if err != nil {
		return 0, err
	}
	return took, rest(ctx)
}

// span reads "NANOSECONDS RFC3339", a start and an end.
func span(text string) (time.Duration, error) {
	from, to, _ := strings.Cut(strings.TrimSpace(text), " ")
	start, err := strconv.ParseInt(from, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading the start in %q: %w", text, err)
	}
	end, err := time.Parse(time.RFC3339Nano, to)
	if err != nil {
		return 0, fmt.Errorf("reading the end in %q: %w", text, err)
	}
	return end.Sub(time.Unix(0, start)), nil
}

// measureMany is P2: many containers at once.
func measureMany(ctx context.Context, b *bench) ([]figures.Row, error) {
	n := b.parallel
	if n == 0 {
		n = howMany()
	}
	var ours, peer []time.Duration
	for i := range b.runs {
		s := service(fmt.Sprintf("many-%d", i), n, sleeper(), target)
		o, err := b.start(ctx, s, n)
		if err != nil {
			return nil, err
		}
		if err := b.remove(ctx, s); err != nil {
			return nil, err
		}
		p, err := b.peerStart(ctx, dockerRunMany, strconv.Itoa(n), sleepImage)
		if err != nil {
			return nil, err
		}
		b.say("P2 run %d, %d containers: ours %v, docker run %v", i+1, n, o, p)
		ours, peer = append(ours, o), append(peer, p)
	}
	p := figures.Times("P2.host", fmt.Sprintf("%d parallel docker run -d --network host", n), peer)
	return []figures.Row{figures.Times("P2", fmt.Sprintf("%d containers submitted at once → all processes", n), ours).Against("as many docker run on host network", p.Value).NoMoreThan(1), p}, nil
}

// howMany containers P2 starts at once: 20 where the machine has other things to do.
func howMany() int {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 20
	}
	load, err := strconv.ParseFloat(strings.Fields(string(text))[0], 64)
	if err != nil || load > float64(runtime.NumCPU()) {
		return 20
	}
	return 50
}
