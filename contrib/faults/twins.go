package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/story"
)

// F9: the same request to two masters at once.

// How often F9 goes through the life of a project, and how many copies of each request each of two masters gets at once.
const (
	twinRounds = 20
	twinCopies = 4
)

// twinPace is how long a round takes at least: a person may ask a hundred times a second.
const twinPace = 400 * time.Millisecond

// twinLife is what happens to each project of F9, as the store has it: what was asked for twice happened once, and what came
// late did not happen again.
const twinLife = "made, label one, label two, deleting, gone, made, deleting, gone"

// twin is a request of F9. again is that it was sent before, and has had its effect.
type twin struct {
	key, method, label string
	again              bool
}

// twinRequests gives the requests about one project; the masters get the copies of each at once. Two of them come again after
// others have changed what they made, as a client does that had no answer for long.
func twinRequests() []twin {
	return []twin{
		{key: "make", method: http.MethodPost},
		{key: "one", method: http.MethodPut, label: "one"},
		{key: "two", method: http.MethodPut, label: "two"},
		{key: "one", method: http.MethodPut, label: "one", again: true},
		{key: "delete", method: http.MethodDelete},
		{key: "remake", method: http.MethodPost},
		{key: "delete", method: http.MethodDelete, again: true},
		{key: "clear", method: http.MethodDelete},
	}
}

// twins sends the copies and counts.
type twins struct {
	*registers
	sent   map[string]int    // requests about a project
	said   map[string]string // the answer to a key
	others int               // answers that were not as the first one to the key
	say    func(format string, args ...any)
}

// duplicateRequests is F9: each request goes several times at once to two of three masters, with one key. What came of it is
// read from the store's own file and from the masters' journals.
func duplicateRequests(ctx context.Context, r *rig) ([]figures.Row, error) {
	c, err := r.newRegisters(ctx)
	if err != nil {
		return nil, err
	}
	defer c.http.CloseIdleConnections() // the masters would keep theirs for two minutes
	w := &twins{registers: c, sent: map[string]int{}, said: map[string]string{}, say: r.say}
	began, run := time.Now(), strconv.FormatInt(time.Now().Unix(), 36)
	for i := range twinRounds {
		next := time.After(twinPace)
		masters := slices.Delete(slices.Clone(c.addrs), i%len(c.addrs), i%len(c.addrs)+1)
		if err := w.round(ctx, masters, fmt.Sprintf("twin-%s-%d", run, i)); err != nil {
			return nil, err
		}
		<-next
	}
	strange := 0
	err = story.Until(ctx, 10*time.Second, func() error { // the store's file is a moment behind
		lives := map[string]string{}
		if err := r.eachChange(ctx, livesOf(lives)); err != nil {
			return err
		}
		strange, err = w.strange(lives)
		return err
	})
	if err != nil {
		r.say("F9: %v", err)
	}
	unrecorded, err := w.unrecorded(ctx, r, began)
	if err != nil {
		return nil, err
	}
	requests := twinRounds * len(twinRequests())
	return []figures.Row{
		figures.Row{ID: "F9", What: fmt.Sprintf("%d requests, each %d times at once to each of two masters: projects whose life in the store is another than asked for", requests, twinCopies),
			Value: float64(strange), Unit: "projects"}.WithGoal("0 projects", strange == 0),
		figures.Row{ID: "F9.answers", What: fmt.Sprintf("of %d answers, those that differ from the first one to their key", requests*2*twinCopies),
			Value: float64(w.others), Unit: "answers"}.WithGoal("0 answers", w.others == 0),
		figures.Row{ID: "F9.audit", What: "requests without an audit record of their own in a master's journal, or records without a request", Value: float64(unrecorded), Unit: "records"}.
			WithGoal("0 records", unrecorded == 0),
	}, nil
}

// round goes through the life of one project.
func (w *twins) round(ctx context.Context, masters []netip.Addr, name string) error {
	for _, t := range twinRequests() {
		w.at(ctx, masters, name, t)
		if t.method != http.MethodDelete || t.again {
			continue
		}
		err := story.Until(ctx, 30*time.Second, func() error {
			_, status, err := w.call(ctx, http.MethodGet, masters[0], "/v1/projects/"+name+"?fresh=1", nil)
			if err == nil && status != http.StatusNotFound {
				err = fmt.Errorf("the deleted project %s gives %d", name, status)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// at sends all copies of a request at once.
func (w *twins) at(ctx context.Context, masters []netip.Addr, name string, t twin) {
	path, body := "/v1/projects/"+name, any(nil)
	if t.method != http.MethodDelete {
		body = map[string]any{"metadata": map[string]any{"name": name, "labels": map[string]string{"value": t.label}}}
	}
	if t.method == http.MethodPost {
		path = "/v1/projects"
	}
	answers := make([]string, len(masters)*twinCopies)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			a, err := w.ask(ctx, t.method, masters[i%len(masters)], path, name+t.key, body)
			if err != nil {
				answers[i] = err.Error()
				return
			}
			answers[i] = fmt.Sprintf("%d %s %s", a.status, a.header.Get("Gear-Result"), a.body)
		})
	}
	all.Wait()
	w.sent[name] += len(answers)
	w.compare(name+t.key, answers)
}

// compare counts the answers that are not as the first one to the key, which must be that it was done.
func (w *twins) compare(key string, answers []string) {
	if w.said[key] == "" {
		w.said[key] = answers[0]
	}
	for _, a := range answers {
		if a != w.said[key] || !strings.HasPrefix(a, "2") {
			w.others++
			w.say("F9: %s gives %s\n  and at first %s", key, a, w.said[key])
		}
	}
}

// livesOf gives what notes of each project of F9 what the store says of it, in words.
func livesOf(lives map[string]string) func(change) {
	return func(c change) {
		name, ok := strings.CutPrefix(c.key, "project/twin-")
		if !ok {
			return
		}
		name = "twin-" + name
		if lives[name] != "" {
			lives[name] += ", "
		}
		lives[name] += c.word()
	}
}

// word says what a change did to a project.
func (c change) word() string {
	var p struct {
		Metadata struct {
			Labels   map[string]string `json:"labels"`
			Deleting bool              `json:"deleting"`
		} `json:"metadata"`
	}
	if c.deleted {
		return "gone"
	}
	switch err := json.Unmarshal(c.value, &p); {
	case err != nil:
		return err.Error()
	case p.Metadata.Deleting:
		return "deleting"
	case p.Metadata.Labels["value"] != "":
		return "label " + p.Metadata.Labels["value"]
	}
	return "made"
}

// strange counts the projects whose life was another one.
func (w *twins) strange(lives map[string]string) (n int, first error) {
	for name := range w.sent {
		if lives[name] != twinLife {
			n++
			first = fmt.Errorf("%s was: %s", name, lives[name])
		}
	}
	return n, first
}

// unrecorded compares the audit records of all masters with the requests, one project after the other.
func (w *twins) unrecorded(ctx context.Context, r *rig, since time.Time) (n int, err error) {
	records := map[string]int{}
	for _, h := range hosts() {
		text, err := r.sh(ctx, h, `journalctl --sync; journalctl -u gear-master -o cat --since "@$1" | sed -n 's/.* log=audit .* object="project \(twin-[^"]*\)".*/\1/p'`, strconv.FormatInt(since.Unix(), 10))
		if err != nil {
			return 0, err
		}
		for _, name := range strings.Fields(text) {
			records[name]++
		}
	}
	for name, sent := range w.sent {
		n += max(sent-records[name], records[name]-sent)
	}
	return n, nil
}
