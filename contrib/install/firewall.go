package install

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"gearmesh.dev/api"
)

// podDevices are the host's ends of the pods' network, as firewalld writes a pattern.
const podDevices = "gv+"

// openings are the ports that hosts of the cluster, its people and, of a router, everybody have to reach on this host.
// Pods' ports are not among them: they are forwarded, by rules of their own.
func openings(master, router bool) []string {
	out := []string{"7444/tcp", "7946/tcp", "7946/udp"}
	if master {
		out = append(out, "7443/tcp", "2380/tcp")
	}
	if router {
		out = append(out, "80/tcp")
	}
	return out
}

// firewall gives a step that looks whether a firewall of this host is in the way, and says what would open it. It opens
// nothing: who may reach a host is its operator's word.
func (i *installer) firewall(master bool) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		want := openings(master, i.Labels[api.RouterLabel] == "true")
		if i.hasCommand("firewall-cmd") && i.systemctl(ctx, "is-active", "firewalld.service") == nil {
			ports, err := i.Runner.Run(ctx, "firewall-cmd", "--list-ports")
			if err != nil {
				return "", nil //nolint:nilerr // it is being started, or is broken: not ours to say
			}
			devices, _ := i.Runner.Run(ctx, "firewall-cmd", "--zone=trusted", "--list-interfaces")
			return firewalldAdvice(want, strings.Fields(ports), strings.Fields(devices)), nil
		}
		if i.hasCommand("ufw") {
			if status, err := i.Runner.Run(ctx, "ufw", "status"); err == nil {
				return ufwAdvice(want, status), nil
			}
		}
		return "", nil
	}
}

// firewalldAdvice gives the commands that let in what firewalld refuses: ports that its default zone does not list, and
// pods, whose devices would be in that zone too.
func firewalldAdvice(want, ports, trusted []string) string {
	var do []string
	if !slices.Contains(trusted, podDevices) {
		do = append(do, "firewall-cmd --permanent --zone=trusted --add-interface="+podDevices)
	}
	if lacks := without(want, ports); len(lacks) > 0 {
		do = append(do, "firewall-cmd --permanent --add-port="+strings.Join(lacks, " --add-port="))
	}
	if len(do) == 0 {
		return ""
	}
	return fmt.Sprintf("firewalld runs; unless it lets them in already, open it for pods and other hosts with: %s && firewall-cmd --reload", strings.Join(do, " && "))
}

// ufwAdvice gives the commands that let in what ufw refuses, by what "ufw status" says. What pods send and get is let through
// before ufw's own rules.
func ufwAdvice(want []string, status string) string {
	lines := strings.Split(status, "\n")
	if !slices.Contains(lines, "Status: active") {
		return ""
	}
	var ports []string
	for _, line := range lines {
		to, action, _ := strings.Cut(line, " ")
		list, protocol, both := strings.Cut(to, "/")
		if !strings.HasPrefix(strings.TrimSpace(action), "ALLOW") {
			continue
		}
		for port := range strings.SplitSeq(list, ",") {
			if both {
				ports = append(ports, port+"/"+protocol)
			} else {
				ports = append(ports, port+"/tcp", port+"/udp")
			}
		}
	}
	lacks := without(want, ports)
	if len(lacks) == 0 {
		return ""
	}
	return "ufw runs; unless it lets them in already, open it for other hosts with: ufw allow " + strings.Join(lacks, " && ufw allow ")
}

// without gives those of all that are not among some.
func without(all, some []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(some, s) })
}
