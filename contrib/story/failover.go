package story

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/lab"
)

// Failover shows what programs notice when their database goes elsewhere: redis and PostgreSQL of Debian, asked
// by redis-cli and psql at an address of localhost that stays the same.
func Failover() []Step {
	f := &failover{}
	return []Step{
		{"redis and PostgreSQL run on h2 or h3, and a client on h1 holds connections to them", f.begin},
		{"redis moves: by cut its client is at the new one at once, by drain it stays while the old one runs", f.move},
		{"the old redis ends: by drain, too, the client goes on with the new one", f.endOld},
		{"PostgreSQL's host loses its power: psql is told at once, and connects again at the same address", f.losePower},
		{"all that while nothing of the client was restarted", f.unmoved},
		{"the host is back", f.comeBack},
	}
}

// failover is what the steps know of each other.
type failover struct {
	client, redis, postgres api.Pod
	identity                string            // of the client's unit and container
	before                  map[string]string // who answered, by the client's conversations
	off                     string            // the host without power
}

// Each server makes up an identity when it starts, and tells it to who asks. The signal that asks redis to end is
// one that it ignores, as a database does that is busy with its last queries.
const failoverManifest = `
kind: Project
metadata: {name: guestbook}
---
kind: Service
metadata: {name: redis, project: guestbook}
spec:
  containers:
    - image: registry.lab:5000/failover/db:1
      command:
        - sh
        - -c
        - |
          id=$(cat /proc/sys/kernel/random/uuid)
          perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalPort => 7007, Proto => "udp") or die; while (1) { $p = $s->recv($m, 99); send($s, $ARGV[0], 0, $p) if defined $p }' $id &
          exec redis-server --protected-mode no --save "" --syslog-ident $id
      ready: {tcp: {port: 6379}, interval: 500ms}
      stopSignal: SIGWINCH
      stopGrace: 20m
  ports:
    - {name: redis, port: 6379}
    - {name: echo, port: 7007, protocol: udp}
  placement: {require: [{label: host, in: [h2]}]}
---
kind: Service
metadata: {name: postgres, project: guestbook}
spec:
  containers:
    - image: registry.lab:5000/failover/db:1
      user: postgres
      command:
        - sh
        - -c
        - |
          PATH=$PATH:$(echo /usr/lib/postgresql/*/bin)
          initdb -D /tmp/pg -A trust --no-sync >/dev/null && echo "host all all all trust" >>/tmp/pg/pg_hba.conf || exit
          exec postgres -D /tmp/pg -c listen_addresses='*' -c unix_socket_directories=/tmp -c fsync=off
      ready: {tcp: {port: 5432}, interval: 500ms}
      stopSignal: SIGINT
  ports: [{port: 5432}]
  placement: {require: [{label: host, in: [h2, h3]}]}
---
kind: Service
metadata: {name: client, project: guestbook}
spec:
  containers:
    - image: registry.lab:5000/failover/db:1
      command:
        - sh
        - -c
        - |
          ask() { while sleep 0.2; do echo "$1" || break; done; }
          note() { while read -r line; do [ "$line" = syslog-ident ] || echo "$line" >>/tmp/$1; done; }
          for link in cut:6379 drain:6380; do
            ask "config get syslog-ident" | stdbuf -oL redis-cli -p ${link#*:} 2>&1 | note ${link%:*} &
          done
          perl -MIO::Socket::INET -e '$| = 1; $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:7007", Proto => "udp") or die;
            while (1) { send($s, "who", 0); vec($r = "", fileno($s), 1) = 1; print "$m\n" if select($r, undef, undef, 1) > 0 && defined recv($s, $m, 99, 0); select(undef, undef, undef, 0.2) }' | note udp &
          while sleep 0.2; do
            ask "select system_identifier from pg_control_system();" | stdbuf -oL psql -h 127.0.0.1 -U postgres -At 2>&1 | note psql
          done
  links:
    - {service: redis, port: redis, localPort: 6379, retarget: cut}
    - {service: redis, port: redis, localPort: 6380, retarget: drain}
    - {service: redis, port: echo, localPort: 7007, protocol: udp}
    - {service: postgres, localPort: 5432, retarget: cut}
  placement: {require: [{label: host, in: [h1]}]}
`

func (f *failover) begin(ctx context.Context, w *World) error {
	image := lab.Image{Name: "failover/db:1", Packages: []string{"postgresql", "redis-server"}, Cmd: []string{"redis-server"}}
	if _, err := w.Lab.Load(ctx, image); err != nil {
		return err
	}
	if _, err := w.Apply(ctx, failoverManifest, "--no-wait"); err != nil {
		return err
	}
	// The first pull of so large an image may take a while on a busy machine.
	err := Until(ctx, Patience, func() (err error) {
		f.redis, err = w.only(ctx, "redis", "h2")
		if err == nil {
			f.postgres, err = w.only(ctx, "postgres", "h2", "h3")
		}
		if err == nil {
			f.client, err = w.only(ctx, "client", "h1")
		}
		return err
	})
	if err != nil {
		return err
	}
	err = Until(ctx, Patience, func() (err error) {
		f.before, err = f.answers(ctx, w)
		if err == nil && (f.before["cut"] != f.before["drain"] || f.before["cut"] != f.before["udp"]) {
			err = fmt.Errorf("one redis answers as %v", f.before)
		}
		return err
	})
	if err != nil {
		return err
	}
	f.identity, err = f.look(ctx, w) // all its programs run by now
	return err
}

// only gives a service's pod when it is the only one, ready, and on one of the hosts.
func (w *World) only(ctx context.Context, service string, hosts ...string) (api.Pod, error) {
	pods, err := w.Pods(ctx, service)
	if err != nil {
		return api.Pod{}, err
	}
	if len(pods) == 1 && pods[0].Status.Ready && strings.Contains(strings.Join(hosts, " "), string(pods[0].Spec.Host)) {
		return pods[0], nil
	}
	return api.Pod{}, fmt.Errorf("%s is not ready on one of %q alone: %s", service, hosts, phases(pods))
}

// inClient runs a script in the client's container, past the agent.
func (f *failover) inClient(ctx context.Context, w *World, script string) (string, error) {
	return w.Exec(ctx, "h1", "sh", "-c", `docker exec $(docker ps -q -f label=dev.gearmesh.pod="$1") sh -c "$2"`, "sh", string(f.client.Metadata.Name), script)
}

// look gives what changes when the client's container is another or its unit is started anew.
func (f *failover) look(ctx context.Context, w *World) (string, error) {
	return w.Exec(ctx, "h1", "sh", "-c", `systemctl show -p ActiveEnterTimestampMonotonic,ExecMainPID,NRestarts "$1"
docker ps -q --no-trunc -f label=dev.gearmesh.pod="$2" | xargs docker inspect -f '{{.Id}} {{.State.StartedAt}} {{.State.Pid}} {{.RestartCount}}'
docker top $(docker ps -q -f label=dev.gearmesh.pod="$2") -o pid,comm | grep redis-cli | sort`, "sh", podUnit(f.client), string(f.client.Metadata.Name))
}

// answers gives the answers that come from now on, the last of each conversation.
func (f *failover) answers(ctx context.Context, w *World) (map[string]string, error) {
	out, err := f.inClient(ctx, w, `cd /tmp; count() { wc -l <$f 2>/dev/null || echo 0; }
for f in cut drain udp psql; do eval $f=$(count); done; sleep 2
for f in cut drain udp psql; do eval n=\$$f; [ $(count) -gt $n ] && echo "$f=$(tail -n 1 $f)"; done; true`)
	if err != nil {
		return nil, err
	}
	answers := map[string]string{}
	for line := range strings.Lines(out) {
		if name, text, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.ContainsAny(text, ": ") {
			answers[name] = text // what has blanks and colons is a message of redis-cli or psql
		}
	}
	for _, name := range []string{"cut", "drain", "udp", "psql"} {
		if answers[name] == "" {
			err = errors.Join(err, fmt.Errorf("no server answers to %s; there came %q", name, out))
		}
	}
	return answers, err
}

func (f *failover) move(ctx context.Context, w *World) error {
	start := time.Now()
	// The new one ends when it is asked to.
	moved := strings.NewReplacer("in: [h2]}", "in: [h3]}", "stopSignal: SIGWINCH", "stopSignal: SIGTERM").Replace(failoverManifest)
	if _, err := w.Apply(ctx, moved, "--no-wait"); err != nil {
		return err
	}
	err := Until(ctx, Patience, func() error {
		now, err := f.answers(ctx, w)
		if err != nil {
			return err
		}
		if now["cut"] == f.before["cut"] || now["udp"] != now["cut"] {
			return fmt.Errorf("by cut and over UDP the old redis still answers: %v", now)
		}
		if now["drain"] != f.before["drain"] {
			return fmt.Errorf("by drain the connection to the old redis, which runs, did not live: %v, before %v", now, f.before)
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.Say("%.1f s after gear apply redis-cli asks the new redis by cut and over UDP, and the old one over the connection that is open by drain", time.Since(start).Seconds())
	return nil
}

// killOld ends the container of a pod that is being stopped, and fails when there is none.
const killOld = `docker kill $(docker ps -q -f label=dev.gearmesh.pod="$1")`

func (f *failover) endOld(ctx context.Context, w *World) error {
	if _, err := w.Exec(ctx, "h2", "sh", "-c", killOld, "sh", string(f.redis.Metadata.Name)); err != nil {
		return fmt.Errorf("the old redis should still run: %w", err)
	}
	start := time.Now()
	err := Until(ctx, Patience, func() error {
		now, err := f.answers(ctx, w)
		if err == nil && now["drain"] != now["cut"] {
			err = fmt.Errorf("the drained link leads to another redis than the other: %v", now)
		}
		return err
	})
	w.Say("%.1f s later the last client is with the new redis", time.Since(start).Seconds())
	return err
}

func (f *failover) losePower(ctx context.Context, w *World) error {
	f.off = string(f.postgres.Spec.Host)
	lines, err := f.inClient(ctx, w, `wc -l </tmp/psql`)
	if err != nil {
		return err
	}
	since := "tail -n +" + strings.TrimSpace(lines) + " /tmp/psql | " // what psql says from here on
	start := time.Now()
	if err := w.Lab.PowerOff(ctx, f.off); err != nil {
		return err
	}
	// psql waits for an answer that no one will give: that its connection is reset is the link's work.
	said := Until(ctx, Patience, func() error {
		_, err := f.inClient(ctx, w, since+"grep -i -e reset -e refused -e closed")
		return err
	})
	if said != nil {
		return fmt.Errorf("psql was not told that its connection is gone: %w", said)
	}
	told := time.Since(start)
	err = Until(ctx, Patience, func() error {
		last, err := f.inClient(ctx, w, since+"tail -n 1")
		if last = strings.TrimSpace(last); err == nil && (last == f.before["psql"] || strings.Trim(last, "0123456789") != "") {
			err = fmt.Errorf("psql has as its last line %q, and %q before", last, f.before["psql"])
		}
		return err
	})
	w.Say("psql was told after %.1f s, and asks the new PostgreSQL after %.1f s", told.Seconds(), time.Since(start).Seconds())
	return err
}

func (f *failover) unmoved(ctx context.Context, w *World) error {
	now, err := f.look(ctx, w)
	if err != nil {
		return err
	}
	if now != f.identity || !strings.Contains(now, "redis-cli") {
		return fmt.Errorf("the client was\n%s\nand is\n%s", f.identity, now)
	}
	return nil
}

func (f *failover) comeBack(ctx context.Context, w *World) error {
	if err := w.Lab.Boot(ctx, f.off); err != nil {
		return err
	}
	return Until(ctx, Patience, func() error { return w.hostsReady(ctx, f.off) })
}
