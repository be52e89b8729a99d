package main

import (
	"fmt"
	"strings"
	"time"

	"gearmesh.dev/api"
)

// links prints a pod's links: what they should be, and what of them stands on the host.
func (a *app) links(w api.Why) {
	if len(w.Links) == 0 {
		return
	}
	fmt.Fprintf(a.out, "\n%s\n", a.outPaint.bold("links"))
	var rows [][]string
	for i, l := range w.Links {
		rows = append(rows, []string{"  " + linkName(l), linkPlace(l), "→ " + a.linkTarget(l)})
		if i < len(w.LinkStates) {
			for _, note := range a.linkNotes(l, w.LinkStates[i]) {
				rows = append(rows, []string{"", "", note})
			}
		}
	}
	writeTable(a.out, a.outPaint, nil, rows)
}

func linkName(l api.LinkTarget) string {
	name := string(l.Service)
	if l.Project != "" {
		name = string(l.Project) + "/" + name
	}
	if l.Name != "" {
		name = fmt.Sprintf("%s (%s)", l.Name, name)
	}
	return name
}

func linkPlace(l api.LinkTarget) string {
	at := fmt.Sprintf("%s:%d/%s", l.Local, l.Port, l.Protocol)
	if l.Localhost {
		return fmt.Sprintf("localhost:%d, %s", l.Port, at)
	}
	return at
}

func (a *app) linkTarget(l api.LinkTarget) string {
	var to []string
	for i, b := range l.Backends {
		word := b.String()
		if i < len(l.Weights) {
			word += fmt.Sprintf(" (weight %d)", l.Weights[i])
		}
		to = append(to, word)
	}
	if len(to) > 0 && l.Via.IsValid() {
		return fmt.Sprintf("%s (balanced, fewest connections) → %s", l.Via, strings.Join(to, ", "))
	}
	if len(to) > 0 {
		return strings.Join(to, ", ")
	}
	if l.Reason == api.ReasonNotOffered {
		return a.outPaint.red(fmt.Sprintf("nobody; connections are refused: project %s has no service %s that it offers to this one", l.Project, l.Service))
	}
	return a.outPaint.red("nobody is ready; connections are refused")
}

// linkNotes tells what of a link stands in the pod's namespace, what is wrong there first.
func (a *app) linkNotes(l api.LinkTarget, s api.LinkState) []string {
	var out []string
	if !s.Applied {
		out = append(out, a.outPaint.red("the rules in the pod's namespace are others; the agent mends them, or: gear host repair"))
	}
	if s.Listening {
		out = append(out, a.outPaint.yellow(fmt.Sprintf("a program in the pod itself listens on port %d; in the pod, connections go to the link and not to it", l.Port)))
	}
	for _, b := range s.Backends {
		out = append(out, backendNote(b))
	}
	if s.Refused > 0 {
		out = append(out, fmt.Sprintf("%d refused since the last change", s.Refused))
	}
	return out
}

func backendNote(b api.LinkBackend) string {
	note := fmt.Sprintf("%s: %d open, %s since the last change", b.Address, b.Open, count(int(b.Connections), "connection"))
	if b.Gone {
		note = fmt.Sprintf("%s: gone, %d open", b.Address, b.Open)
	}
	if b.Until != nil {
		note += " until " + b.Until.Local().Format(time.DateTime)
	}
	return note
}
