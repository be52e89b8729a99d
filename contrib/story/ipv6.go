package story

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/lab"
)

// IPv6 shows that what is open over IPv4 is open over IPv6, and what is closed closed.
func IPv6() []Step {
	n := &neighbours{}
	return []Step{
		{"each host tells of its IPv6 address", hostsHaveIPv6},
		{"a pod has IPv6: it reaches a public port, and no other port of any host", func(ctx context.Context, w *World) error { return sixOut(ctx, w, n) }},
		{"a pod whose network an older version made gets IPv6 from its agent, without a restart", func(ctx context.Context, w *World) error { return sixUpdated(ctx, w, n) }},
		{"db has an AAAA record, its host too", sixNames},
		{"an alias has the routers' AAAA records, and is served there", sixRouter},
		{"a link is at ::1 as at 127.0.0.1", func(ctx context.Context, w *World) error { return sixLink(ctx, w, n) }},
		{"egress over IPv6: refused at once and counted; a network is let through, live", func(ctx context.Context, w *World) error { return sixHeld(ctx, w, n) }},
		{"h1 is rebooted with no agent: the same", func(ctx context.Context, w *World) error { return sixAlone(ctx, w, n) }},
	}
}

const sixManifest = `
kind: Project
metadata: {name: six}
spec: {egress: %s}
---
kind: Service
metadata: {name: db, project: six}
spec:
  containers: [{image: "registry.lab:5000/guestbook/redis:1", command: [redis-server, --save, "", --protected-mode, "no"]}]
  ports: [{name: main, port: 6379, public: true}]
  placement: {require: [{label: host, in: [h2]}]}
---
kind: Service
metadata: {name: inner, project: six}
spec:
  containers: [{image: "registry.lab:5000/guestbook/redis:1", command: [redis-server, --save, "", --protected-mode, "no"]}]
  ports: [{name: main, port: 6379}]
  placement: {require: [{label: host, in: [h2]}]}
---
kind: Service
metadata: {name: app, project: six}
spec:
  containers: [{image: "registry.lab:5000/guestbook/redis:1", command: [sh, -c, "exec sleep infinity"], stopGrace: 1s}]
  links: [{service: inner, localPort: 6379}]
  placement: {require: [{label: host, in: [h1]}]}
---
kind: Service
metadata: {name: web, project: six}
spec:
  containers: [{image: "registry.lab:5000/guestbook/web:1", ready: {http: {port: 8080, path: /healthz}}}]
  ports: [{name: http, port: 8080}]
  aliases: [six.example.com]
`

// six gives the IPv6 address of a host.
func (w *World) six(host string) netip.Addr { return lab.IPv6(w.hosts[host]) }

func hostsHaveIPv6(ctx context.Context, w *World) error {
	return Until(ctx, Patience, func() error {
		var list api.List[api.Host]
		if err := w.JSON(ctx, &list, "get", "hosts"); err != nil {
			return err
		}
		for _, h := range list.Items {
			if h.Status.IPv6 != w.six(string(h.Metadata.Name)) {
				return fmt.Errorf("host %s says %s, and has %s", h.Metadata.Name, h.Status.IPv6, w.six(string(h.Metadata.Name)))
			}
		}
		return nil
	})
}

// sixPod finds the one pod of a service of the project.
func sixPod(ctx context.Context, w *World, service string) (api.Pod, error) {
	var list api.List[api.Pod]
	if err := w.JSON(ctx, &list, "get", "pods", "-p", "six"); err != nil {
		return api.Pod{}, err
	}
	for _, p := range list.Items {
		if string(p.Spec.Service) == service {
			return p, nil
		}
	}
	return api.Pod{}, fmt.Errorf("%s has no pod: %s", service, phases(list.Items))
}

// sixPorts gives the places of db's public port and of inner's, which is not.
func sixPorts(ctx context.Context, w *World) (public, inner string, err error) {
	var places [2]string
	for i, service := range []string{"db", "inner"} {
		p, err := sixPod(ctx, w, service)
		if err != nil {
			return "", "", err
		}
		if len(p.Status.Ports) != 1 {
			return "", "", fmt.Errorf("%s has the ports %+v", service, p.Status.Ports)
		}
		places[i] = fmt.Sprintf("%s %d", w.six("h2"), p.Status.Ports[0].HostPort)
	}
	return places[0], places[1], nil
}

func sixOut(ctx context.Context, w *World, n *neighbours) error {
	if out, err := w.Apply(ctx, fmt.Sprintf(sixManifest, "{default: allow}"), "--timeout", "5m"); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	var err error
	if n.app, err = sixPod(ctx, w, "app"); err != nil {
		return err
	}
	public, inner, err := sixPorts(ctx, w)
	if err != nil {
		return err
	}
	want := map[string]bool{public: true, inner: false, w.six("h3").String() + " 22": false}
	for _, host := range []string{"h1", "h2", "h3"} {
		for _, port := range []string{"22", "2379", "2380", "7443", "7444", "7946"} {
			want[w.six(host).String()+" "+port] = false
		}
	}
	return Until(ctx, Patience, func() error { return n.allReach(ctx, w, want) })
}

// sixUpdated leaves h1 as a version without IPv6 did, and starts its agent.
func sixUpdated(ctx context.Context, w *World, n *neighbours) error {
	public, inner, err := sixPorts(ctx, w)
	if err != nil {
		return err
	}
	const since = "systemctl show -p NRestarts -p ActiveEnterTimestampMonotonic 'gear-six-app-*.service'"
	before, err := w.Exec(ctx, "h1", "sh", "-c", since)
	if err != nil {
		return err
	}
	if _, err := w.Exec(ctx, "h1", "sh", "-ec", "systemctl kill --signal=KILL gear-agent; systemctl stop gear-agent; for i in /proc/sys/net/ipv6/conf/gv*/disable_ipv6 /proc/sys/net/ipv6/conf/gear0/disable_ipv6; do echo 1 >$i; done; ip6tables -F; ip6tables -t nat -F; ip6tables -t raw -F"); err != nil {
		return err
	}
	if _, err := n.inside(ctx, w, "echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip6tables -t raw -F; ip6tables -t raw -X"); err != nil {
		return err
	}
	if _, err := w.Exec(ctx, "h1", "systemctl", "start", "gear-agent"); err != nil {
		return err
	}
	if err := Until(ctx, Patience, func() error { return n.allReach(ctx, w, map[string]bool{public: true, inner: false}) }); err != nil {
		return err
	}
	after, err := w.Exec(ctx, "h1", "sh", "-c", since)
	if err == nil && after != before {
		err = fmt.Errorf("the pod was restarted: before %s, after %s", before, after)
	}
	return err
}

func sixNames(ctx context.Context, w *World) error {
	return Until(ctx, Patience, func() error {
		for _, name := range []string{"db.six.gear.internal", "h2.host.gear.internal"} {
			out, err := w.Exec(ctx, "h3", "dig", "+short", "@"+w.hosts["h3"].String(), name, "AAAA")
			if err != nil {
				return err
			}
			if strings.TrimSpace(out) != w.six("h2").String() {
				return fmt.Errorf("%s has AAAA %q, want %s", name, out, w.six("h2"))
			}
		}
		return nil
	})
}

// sixRouter asks for an alias, and then the routers of h1 and h2 for what it stands for.
func sixRouter(ctx context.Context, w *World) error {
	return Until(ctx, Patience, func() error {
		out, err := w.Dig(ctx, "h3", "six.example.com", "AAAA")
		if err != nil {
			return err
		}
		for _, host := range []string{"h1", "h2"} {
			at := w.six(host).String()
			if !strings.Contains(out, at) {
				return fmt.Errorf("six.example.com has AAAA %q, and not the router's on %s", out, host)
			}
			answer, err := w.Exec(ctx, "h3", "curl", "-sS", "-m", "5", "--resolve", "six.example.com:80:["+at+"]", "http://six.example.com/healthz")
			if err != nil || strings.TrimSpace(answer) != "ok" {
				return fmt.Errorf("the router on %s answers %q over IPv6: %w", host, answer, err)
			}
		}
		return nil
	})
}

// sixLink talks by the app's link, whose backend is a port that it reaches in no other way.
func sixLink(ctx context.Context, w *World, n *neighbours) error {
	return Until(ctx, Patience, func() error {
		for _, at := range []string{"127.0.0.1", "::1"} {
			out, err := n.inside(ctx, w, "exec 3<>/dev/tcp/"+at+"/6379 && echo PING >&3 && read -r -t 20 answer <&3 && echo $answer")
			if err == nil && !strings.Contains(out, "PONG") {
				err = fmt.Errorf("inner answers %q", out)
			}
			if err != nil {
				return fmt.Errorf("by %s: %w", at, err)
			}
		}
		return nil
	})
}

// hold6 changes the project's egress, and waits until the pod notices.
func (n *neighbours) hold6(ctx context.Context, w *World, egress string, want map[string]bool) error {
	if out, err := w.Apply(ctx, fmt.Sprintf(sixManifest, egress)); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return Until(ctx, Patience, func() error { return n.allReach(ctx, w, want) })
}

func sixHeld(ctx context.Context, w *World, n *neighbours) error {
	public, inner, err := sixPorts(ctx, w)
	if err != nil {
		return err
	}
	host, _, _ := strings.Cut(public, " ")
	if err := n.hold6(ctx, w, "{}", map[string]bool{public: false}); err != nil {
		return err
	}
	if err := Until(ctx, Patience, func() error { return n.countsRefusals(ctx, w, "six") }); err != nil {
		return err
	}
	if err := n.hold6(ctx, w, "{allow: [{cidr: 0.0.0.0/0}]}", map[string]bool{public: false}); err != nil {
		return err
	}
	return n.hold6(ctx, w, "{allow: [{cidr: "+host+"/128}]}", map[string]bool{public: true, inner: false, w.six("h2").String() + " 22": false, w.six("h1").String() + " 80": false})
}

func sixAlone(ctx context.Context, w *World, n *neighbours) error {
	public, inner, err := sixPorts(ctx, w)
	if err != nil {
		return err
	}
	if _, err := w.Exec(ctx, "h1", "sh", "-c", maskAgent); err != nil {
		return err
	}
	if err := w.Lab.PowerOff(ctx, "h1"); err != nil {
		return err
	}
	if err := w.Lab.Boot(ctx, "h1"); err != nil {
		return err
	}
	err = Until(ctx, Patience, func() error {
		return n.allReach(ctx, w, map[string]bool{public: true, inner: false, w.six("h2").String() + " 22": false, w.six("h1").String() + " 80": false})
	})
	if err == nil {
		err = sixLink(ctx, w, n)
	}
	if err != nil {
		return err
	}
	_, err = w.Exec(ctx, "h1", "sh", "-c", unmaskAgent)
	return err
}
