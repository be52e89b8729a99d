package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"gearmesh.dev/internal/atomicfile"
)

// Row is one figure. A row without a goal is there for orientation, or is a part of another.
type Row struct {
	ID      string    `json:"id"` // of the docs, such as P1; P1.bridge goes with P1
	What    string    `json:"what"`
	Value   float64   `json:"value"`
	Unit    string    `json:"unit"`
	Peer    string    `json:"peer,omitempty"`  // what it is compared with, and its value
	Ratio   float64   `json:"ratio,omitempty"` // value / peer
	Goal    string    `json:"goal,omitempty"`
	Met     *bool     `json:"met,omitempty"`
	Command string    `json:"command"`
	Samples []float64 `json:"samples,omitempty"` // in the order of the runs
}

// times gives a row of the median of durations, in milliseconds.
func times(id, what string, samples []time.Duration) Row {
	r := Row{ID: id, What: what, Unit: "ms"}
	for _, s := range samples {
		r.Samples = append(r.Samples, float64(s.Microseconds())/1000)
	}
	r.Value = median(r.Samples)
	return r
}

// amounts gives a row of the median of values.
func amounts(id, what, unit string, samples []float64) Row {
	return Row{ID: id, What: what, Unit: unit, Samples: samples, Value: median(samples)}
}

// against adds the peer's median.
func (r Row) against(name string, peer float64) Row {
	r.Peer = number(peer) + " " + r.Unit + " " + name
	if peer > 0 {
		r.Ratio = r.Value / peer
	}
	return r
}

// goal adds a goal and whether it is met.
func (r Row) goal(text string, met bool) Row {
	r.Goal, r.Met = text, &met
	return r
}

// atMost adds the goal that the value is not above a bound.
func (r Row) atMost(bound float64) Row {
	return r.goal("≤ "+number(bound)+" "+r.Unit, r.Value <= bound)
}

// noMoreThan adds the goal that the ratio to the peer is not above a bound.
func (r Row) noMoreThan(bound float64) Row {
	return r.goal(fmt.Sprintf("≤ %.2f × peer", bound), r.Ratio > 0 && r.Ratio <= bound)
}

// slowest makes the value the greatest sample.
func (r Row) slowest() Row {
	r.Value = slices.Max(r.Samples)
	return r
}

// median gives the middle sample, or the mean of the two middle ones; 0 for none.
func median(samples []float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(samples))
	m := len(s) / 2
	if len(s)%2 == 1 {
		return s[m]
	}
	return (s[m-1] + s[m]) / 2
}

// number prints three or more digits that matter: 2.13, 21.3, 213, 2130.
func number(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

func printTable(w io.Writer, rows []Row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "id\twhat\tvalue\tunit\tpeer\tratio\tgoal\tmet")
	for _, r := range rows {
		ratio, met := "-", "-"
		if r.Ratio > 0 {
			ratio = fmt.Sprintf("%.2f", r.Ratio)
		}
		if r.Met != nil {
			met = map[bool]string{true: "met", false: "missed"}[*r.Met]
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.What, number(r.Value), r.Unit, dash(r.Peer), ratio, dash(r.Goal), met)
	}
	return t.Flush()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// saveJSON writes the rows as one JSON array, a row a line.
func saveJSON(file string, rows []Row) error {
	if file == "" {
		return nil
	}
	text := bytes.NewBufferString("[")
	for i, r := range rows {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if i > 0 {
			text.WriteString(",")
		}
		text.WriteString("\n")
		text.Write(line)
	}
	text.WriteString("\n]\n")
	return atomicfile.Write(file, text.Bytes(), 0o644)
}
