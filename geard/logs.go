package geard

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/journal"
	"gearmesh.dev/unitgen"
)

// logAsk is what a request for logs asks for.
type logAsk struct {
	project, service, pod, container api.Name
	unit                             string // of the host; with host
	host                             bool   // the host's own journal
	grep                             *regexp.Regexp
	previous                         bool // of the run before the last
	system                           bool // with the lines of systemd and the kernel
	query                            journal.Query
}

// serveLogs streams lines from the journal, which holds them longer than the pods that wrote them: so it goes by
// names, and the pod need not exist any more. It reads nothing that other work of the agent holds.
func (a *Agent) serveLogs(w http.ResponseWriter, r *http.Request) error {
	ask, err := readLogAsk(r.URL.Query())
	if err != nil {
		return err
	}
	keep := ask.keep()
	if ask.previous {
		found, err := previousRuns(r, &ask)
		if err != nil {
			return err
		}
		if !found {
			w.Header().Set("Content-Type", "application/x-ndjson")
			return nil
		}
	}
	out, flush := json.NewEncoder(w), http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	flush.Flush()
	for e, err := range journal.Select(r.Context(), ask.query, keep) {
		if err != nil {
			a.log.Warn("reading logs for the master", "err", err)
			return nil
		}
		if out.Encode(a.logLine(e, ask)) != nil {
			return nil // whoever asked has gone
		}
		if ask.query.Follow {
			flush.Flush()
		}
	}
	return nil
}

func (a *Agent) logLine(e journal.Entry, ask logAsk) api.LogLine {
	f := e.Fields
	l := api.LogLine{Time: e.Time, Host: a.cfg.Name, Project: ask.project, Service: api.Name(f["GEAR_SERVICE"]),
		Pod: api.Name(f["GEAR_POD"]), Container: api.Name(f["GEAR_CONTAINER"]), Text: e.Text}
	switch {
	case f["_TRANSPORT"] == "kernel":
		l.Source = "kernel"
	case f["_PID"] == "1":
		l.Source = "systemd"
	case ask.host:
		l.Source = journal.Escape(f["SYSLOG_IDENTIFIER"])
	}
	if l.Pod == "" {
		l.Pod = ask.pod
	}
	return l
}

// unitName is what systemd takes for a name of a unit (systemd.unit(5)).
const unitName = `^[A-Za-z0-9:_.@\\-]{1,255}$`

// readLogAsk reads ?project=P, with pod, service and container, or ?host=1 with unit; and follow=1, tail, since,
// grep, previous=1, system=1. What becomes a match of the journal is a name or a unit's name.
func readLogAsk(v url.Values) (logAsk, error) {
	ask := logAsk{project: api.Name(v.Get("project")), service: api.Name(v.Get("service")), pod: api.Name(v.Get("pod")), container: api.Name(v.Get("container")),
		unit: v.Get("unit"), host: v.Get("host") == "1", previous: v.Get("previous") == "1", system: v.Get("system") == "1"}
	ask.query = journal.Query{Tail: journal.All, Follow: v.Get("follow") == "1"}
	for field, name := range map[string]api.Name{"project": ask.project, "service": ask.service, "pod": ask.pod, "container": ask.container} {
		if err := name.Validate(); err != nil && (name != "" || field == "project" && !ask.host) {
			return ask, api.Errorf(api.CodeBadRequest, "%s: %v", field, err)
		}
	}
	if ask.unit != "" && !regexp.MustCompile(unitName).MatchString(ask.unit) {
		return ask, api.Errorf(api.CodeBadRequest, "unit: %.80q is no name of a unit", ask.unit)
	}
	var err error
	if s := v.Get("tail"); s != "" {
		if ask.query.Tail, err = strconv.Atoi(s); err != nil || ask.query.Tail < 0 || ask.query.Tail > 1e6 {
			return ask, api.Errorf(api.CodeBadRequest, "tail: %q is no number of lines", s)
		}
	}
	if s := v.Get("since"); s != "" {
		if ask.query.Since, err = time.ParseDuration(s); err != nil || ask.query.Since < 0 {
			return ask, api.Errorf(api.CodeBadRequest, "since: %q is no duration; write one such as 10m", s)
		}
	}
	if ask.grep, err = regexp.Compile(v.Get("grep")); err != nil || len(v.Get("grep")) > 1000 {
		return ask, api.Errorf(api.CodeBadRequest, "grep: %.80q is no regular expression", v.Get("grep"))
	}
	ask.query.Match = ask.match()
	return ask, nil
}

// match gives the journal's matches: what the containers wrote, or systemd of their units, or the kernel.
func (q logAsk) match() []string {
	if q.host {
		return hostMatch(q.unit)
	}
	m := append(q.names(), "_TRANSPORT=stdout")
	if q.system && q.pod != "" {
		for _, unit := range q.units() {
			m = append(m, "+", "_PID=1", "UNIT="+unit)
		}
		m = append(m, "+", "_TRANSPORT=kernel")
	}
	return m
}

// units gives the pod's units by their names alone, since it may be gone.
func (q logAsk) units() []string {
	out := []string{unitgen.PodSlice(q.project, q.pod), unitgen.NetUnit(q.project, q.pod), unitgen.ContainerUnit(q.project, q.pod, "", true)}
	if q.container != "" {
		out = append(out, unitgen.ContainerUnit(q.project, q.pod, q.container, false))
	}
	return out
}

func hostMatch(unit string) []string {
	if unit == "" {
		return nil
	}
	if !strings.Contains(unit, ".") {
		unit += ".service"
	}
	return []string{"_SYSTEMD_UNIT=" + unit, "+", "_PID=1", "UNIT=" + unit}
}

// names gives the matches of the pods that are asked for.
func (q logAsk) names() []string {
	m := []string{"GEAR_PROJECT=" + string(q.project)}
	for field, name := range map[string]api.Name{"GEAR_SERVICE": q.service, "GEAR_POD": q.pod, "GEAR_CONTAINER": q.container} {
		if name != "" {
			m = append(m, field+"="+string(name))
		}
	}
	return m
}

// keep tells which of the entries that match are shown. It is for one stream: it remembers.
func (q logAsk) keep() func(journal.Entry) bool {
	kernel := kernelLines(unitgen.PodSlice(q.project, q.pod))
	return func(e journal.Entry) bool {
		if !q.host && e.Fields["_TRANSPORT"] == "kernel" && !kernel(e.Text) {
			return false
		}
		return q.grep.MatchString(e.Text)
	}
}

// killedBy finds the process in the line in which the kernel says whom it chose (mm/oom_kill.c, dump_oom_victim).
var killedBy = regexp.MustCompile(`,pid=(\d+),`)

// kernelLines tells which of the kernel's lines are about a pod: those that name its slice, and what the kernel
// then says of the process that it has chosen.
func kernelLines(slice string) func(text string) bool {
	victim := ""
	return func(text string) bool {
		if strings.Contains(text, "/"+slice) {
			if m := killedBy.FindStringSubmatch(text); m != nil {
				victim = "rocess " + m[1] + " ("
			}
			return true
		}
		return victim != "" && strings.Contains(text, victim)
	}
}

// previousRuns narrows the query to the run before the last of each container. There may be none.
func previousRuns(r *http.Request, ask *logAsk) (found bool, err error) {
	var marks []runMark
	for e, err := range journal.Read(r.Context(), journal.Query{Match: append(ask.names(), "MESSAGE_ID="+journal.RunMarker), Tail: journal.All}) {
		if err != nil {
			return false, err
		}
		f := e.Fields
		marks = append(marks, runMark{f["GEAR_POD"] + "/" + f["GEAR_CONTAINER"], f["GEAR_CONTAINER_ID"], f["_SYSTEMD_INVOCATION_ID"]})
	}
	invocations := beforeLast(marks)
	for _, id := range invocations {
		ask.query.Match = append(ask.query.Match, "_SYSTEMD_INVOCATION_ID="+id)
	}
	return len(invocations) > 0, nil
}

// runMark is what gear-run says when it begins to look after a container.
type runMark struct {
	container  string // POD/CONTAINER
	id         string // of the engine
	invocation string // of the unit
}

// beforeLast gives the invocations that looked after the last but one run of each container. marks are in their order.
func beforeLast(marks []runMark) []string {
	ids := map[string][]string{}
	of := map[string][]string{} // invocations, by the engine's id
	var order []string
	for _, m := range marks {
		if len(of[m.id]) == 0 {
			if len(ids[m.container]) == 0 {
				order = append(order, m.container)
			}
			ids[m.container] = append(ids[m.container], m.id)
		}
		of[m.id] = append(of[m.id], m.invocation)
	}
	var out []string
	for _, c := range order {
		if n := len(ids[c]); n >= 2 {
			out = append(out, of[ids[c][n-2]]...)
		}
	}
	return out
}
