package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"gearmesh.dev/api"
)

// columns makes the rows of tables.
type columns struct {
	paint   paint
	wide    bool
	project bool // show the project
	now     time.Time
	hosts   map[api.Name]string // addresses of hosts, for pods
}

// header gives the titles of a kind's columns.
func (c columns) header(k api.Kind) []string {
	wide := map[api.Kind][]string{
		api.KindProject: {"uid"}, api.KindHost: {"version", "capacity", "seen", "uid"}, api.KindService: {"image", "ports", "uid"},
		api.KindAlias: {"uid"}, api.KindSecret: {"uid"}, api.KindPod: {"address", "cause", "image", "uid"},
	}
	narrow := map[api.Kind][]string{
		api.KindProject: {"name", "description", "age"},
		api.KindHost:    {"name", "state", "address", "pods", "labels", "message", "age"},
		api.KindService: {"name", "ready", "message", "age"},
		api.KindSecret:  {"name", "values", "age"},
		api.KindAlias:   {"name", "host name", "to", "state", "age"},
		api.KindPod:     {"name", "state", "host", "restarts", "message", "age"},
	}
	return c.assemble("project", narrow[k], wide[k])
}

// assemble puts the project first, and the wide columns before the age.
func (c columns) assemble(project string, narrow, wide []string) []string {
	var out []string
	if c.project {
		out = append(out, project)
	}
	out = append(out, narrow[:len(narrow)-1]...)
	if c.wide {
		out = append(out, wide...)
	}
	return append(out, narrow[len(narrow)-1])
}

// row gives the cells of a resource.
func (c columns) row(r api.Resource) []string {
	m := r.Head().Metadata
	name, age := string(m.Name), ago(c.now, m.Created)
	var narrow, wide []string
	switch r := r.(type) {
	case *api.Project:
		narrow, wide = []string{name, r.Spec.Description, age}, nil
	case *api.Host:
		narrow = []string{name, c.state(hostHealth(r), hostState(r)), c.address(r), fmt.Sprint(r.Status.Pods), labels(m.Labels), cause("", r.Status.Message), age}
		wide = []string{orDash(r.Status.Version), capacity(r.Status.Capacity), ago(c.now, r.Status.Seen)}
	case *api.Service:
		h := serviceHealth(r)
		narrow = []string{name, c.state(h, fmt.Sprintf("%d/%d", r.Status.Ready, replicas(r))), c.message(h, r.Status.Reason, r.Status.Message), age}
		wide = []string{images(&r.Spec.PodTemplate), portList(r.Spec.Ports)}
	case *api.Secret:
		narrow = []string{name, strings.Join(sortedKeys(r.Spec.Hashes), ","), age}
	case *api.Alias:
		narrow = []string{name, string(r.Spec.Host), aliasTarget(r), c.alias(r), age}
	case *api.Pod:
		h, word := podHealth(r)
		narrow = []string{name, c.state(h, word), orDash(string(r.Spec.Host)), fmt.Sprint(restarts(r)), c.message(h, r.Status.Reason, r.Status.Message), age}
		wide = []string{orDash(addresses(r, c.hosts)), orDash(string(r.Spec.Cause)), images(&r.Spec.Template)}
	}
	return c.assemble(string(m.Project), narrow, append(wide, string(m.UID)))
}

func (c columns) state(h health, word string) string {
	return c.paint.dot(h) + " " + c.paint.word(h, word)
}

// message is only of use while something is not well.
func (c columns) message(h health, reason api.Reason, message string) string {
	if h == well || h == idle {
		return ""
	}
	return text.Snip(strings.ReplaceAll(cause(reason, message), "\n", " "), messageWidth(c.wide), "…")
}

// messageWidth bounds a message in a table; -o wide and describe show all of it.
func messageWidth(wide bool) int {
	if wide {
		return 1000
	}
	return 70
}

func (c columns) address(h *api.Host) string {
	if !h.Spec.Address.IsValid() {
		return "-"
	}
	return h.Spec.Address.String()
}

func (c columns) alias(r *api.Alias) string {
	if r.Status.Active {
		return c.state(well, "active")
	}
	return c.state(ill, orDash(cause(r.Status.Reason, r.Status.Message)))
}

func aliasTarget(r *api.Alias) string {
	if r.Spec.Port == "" {
		return string(r.Spec.Service)
	}
	return fmt.Sprintf("%s:%s", r.Spec.Service, r.Spec.Port)
}

// labels gives labels sorted, as people write them.
func labels(m map[string]string) string {
	var out []string
	for _, k := range sortedKeys(m) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, ",")
}

func capacity(r api.Resources) string {
	return fmt.Sprintf("%s cpu, %.1f GiB", r.CPU, float64(r.Memory)/(1<<30))
}

func portList(ports []api.Port) string {
	var out []string
	for _, p := range ports {
		s := fmt.Sprintf("%s %d", p.Name, p.Port)
		if p.Protocol == api.UDP {
			s += "/udp"
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

// line prints one row; columns are as wide as any row so far.
func (w *watchTable) line(cells []string) {
	var b strings.Builder
	for i, cell := range cells {
		w.widths[i] = max(w.widths[i], text.StringWidthWithoutEscSequences(cell))
		b.WriteString(text.Pad(cell, w.widths[i]+3, ' '))
	}
	fmt.Fprintln(w.out, strings.TrimRight(b.String(), " "))
}
