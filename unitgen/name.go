package unitgen

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"gearmesh.dev/api"
)

// Prefix opens the name of every unit of ours, so that one pattern finds them all.
const Prefix = "gear-"

// Target wants every pod at boot; enabling it is what makes a host come back by itself.
const Target = "gear.target"

// LinksUnit is the HAProxy of the host that carries balanced links. A pod with such a link wants it before its network is up.
const LinksUnit = "gear-links.service"

// RunSlice holds the gear-run processes, outside the pods' own slices: a supervisor's memory
// must not count against the container it looks after.
const RunSlice = "gearrun.slice"

// maxSlicePart bounds an escaped name in a slice's, in bytes: "gear-" + two of them + "-" +
// ".slice" stays under NAME_MAX (255), which is the limit of unit names and of cgroup directories.
const maxSlicePart = 118

// ProjectSlice gives the slice of a project: "gear-my\x2dshop.slice" for my-shop.
func ProjectSlice(project api.Name) string {
	return Prefix + slicePart(project) + ".slice"
}

// PodSlice gives the slice of a pod, which systemd nests in the project's by its name:
// "gear-my\x2dshop-web\x2d7f3k2.slice".
func PodSlice(project, pod api.Name) string {
	return Prefix + slicePart(project) + "-" + slicePart(pod) + ".slice"
}

// NetUnit gives the service that makes a pod's network: "gear-shop-web-7f3k2-net.service".
// No container can be called net.
func NetUnit(project, pod api.Name) string {
	return fmt.Sprintf("%s%s-%s-net.service", Prefix, project, pod)
}

// PidsUnit gives the service that holds the pid namespace of a pod whose containers share one:
// "gear-shop-web-7f3k2-pids.service". No container of such a pod can be called pids.
func PidsUnit(project, pod api.Name) string {
	return fmt.Sprintf("%s%s-%s-pids.service", Prefix, project, pod)
}

// LinkUnit gives the service that is up when a pod's link has a backend, n from 1 in the order of the template:
// "gear-shop-web-7f3k2-link.1.service". No container's name has a dot.
func LinkUnit(project, pod api.Name, n int) string {
	return fmt.Sprintf("%s%s-%s-link.%d.service", Prefix, project, pod, n)
}

// LinkUnits gives the services of the links that a pod's containers wait for.
func LinkUnits(pod api.Pod) []string {
	var out []string
	for i, l := range pod.Spec.Template.Links {
		if l.WaitFor != "" {
			out = append(out, LinkUnit(pod.Metadata.Project, pod.Metadata.Name, i+1))
		}
	}
	return out
}

// LeaseTimer gives the dead-man timer of a singleton: "gear-shop-mail-7f3k2-lapsed.timer".
func LeaseTimer(project, pod api.Name) string {
	return fmt.Sprintf("%s%s-%s-lapsed.timer", Prefix, project, pod)
}

// LapsedUnit gives the service that the timer starts, which ends the pod: "gear-shop-mail-7f3k2-lapsed.service".
// No container of a singleton can be called lapsed.
func LapsedUnit(project, pod api.Name) string {
	return fmt.Sprintf("%s%s-%s-lapsed.service", Prefix, project, pod)
}

// OwnUnits gives the units of a pod itself that its containers' depend on: first those to stop last.
func OwnUnits(pod api.Pod) []string {
	m := pod.Metadata
	out := []string{PodSlice(m.Project, m.Name), NetUnit(m.Project, m.Name)}
	if pod.Spec.Template.ShareProcesses {
		out = append(out, PidsUnit(m.Project, m.Name))
	}
	out = append(out, LinkUnits(pod)...)
	if pod.Singleton() {
		out = append(out, LapsedUnit(m.Project, m.Name), LeaseTimer(m.Project, m.Name))
	}
	return out
}

// ContainerUnit gives the service of a container: the first that is no init container has the pod's
// name alone, "gear-shop-web-7f3k2.service", the others add their own.
//
// Service names are for people and are not escaped, so two pods could want one name (project a,
// pod b-c and project a-b, pod c). The uid in each file's head tells whose it is.
func ContainerUnit(project, pod, container api.Name, first bool) string {
	if first {
		return fmt.Sprintf("%s%s-%s.service", Prefix, project, pod)
	}
	return fmt.Sprintf("%s%s-%s-%s.service", Prefix, project, pod, container)
}

// ContainerUnits gives the services of a pod's containers, the init containers' first.
func ContainerUnits(pod api.Pod) []string {
	t := &pod.Spec.Template
	var out []string
	for i, c := range t.All() {
		out = append(out, ContainerUnit(pod.Metadata.Project, pod.Metadata.Name, c.Name, i == len(t.InitContainers)))
	}
	return out
}

// StoppedUnit gives the unit that systemd starts when a container's unit has come to its end, an instance of
// gearrun-stopped@.service: "gearrun-stopped@k3v7qxw2m5n4a6bz-main.service". Its %I is UID/CONTAINER.
func StoppedUnit(uid api.UID, container api.Name) string {
	return "gearrun-stopped@" + Escape(string(uid)+"/"+string(container)) + ".service"
}

// slicePart escapes a name for a slice, whose every "-" opens a new level. A name of many hyphens
// outgrows what a unit name may be; its end is then replaced by a hash after "_", which no
// name has.
func slicePart(n api.Name) string {
	escaped := Escape(string(n))
	if len(escaped) <= maxSlicePart {
		return escaped
	}
	sum := sha256.Sum256([]byte(n))
	var b strings.Builder
	for i := 0; b.Len() < maxSlicePart-40; i++ {
		b.WriteString(Escape(string(n[i])))
	}
	return b.String() + "_" + hex.EncodeToString(sum[:16])
}

// Escape does what systemd-escape(1) does to a string that becomes a part of a unit name.
func Escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == '/':
			b.WriteByte('-')
		case c == '.' && i == 0, !plainUnitByte(c):
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func plainUnitByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == ':' || c == '_' || c == '.'
}
