// Package figures holds what make bench and make faults say: one row an id of the docs, as a table
// and as JSON.
package figures

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

// Times gives a row of the median of durations, in milliseconds.
func Times(id, what string, samples []time.Duration) Row {
	r := Row{ID: id, What: what, Unit: "ms"}
	for _, s := range samples {
		r.Samples = append(r.Samples, float64(s.Microseconds())/1000)
	}
	r.Value = Median(r.Samples)
	return r
}

// Amounts gives a row of the median of values.
func Amounts(id, what, unit string, samples []float64) Row {
	return Row{ID: id, What: what, Unit: unit, Samples: samples, Value: Median(samples)}
}

// Against adds the peer's median.
func (r Row) Against(name string, peer float64) Row {
	r.Peer = Number(peer) + " " + r.Unit + " " + name
	if peer > 0 {
		r.Ratio = r.Value / peer
	}
	return r
}

// WithGoal adds a goal and whether it is met.
func (r Row) WithGoal(text string, met bool) Row {
	r.Goal, r.Met = text, &met
	return r
}

// AtMost adds the goal that the value is not above a bound.
func (r Row) AtMost(bound float64) Row {
	return r.WithGoal("≤ "+Number(bound)+" "+r.Unit, r.Value <= bound)
}

// NoMoreThan adds the goal that the ratio to the peer is not above a bound.
func (r Row) NoMoreThan(bound float64) Row {
	return r.WithGoal(fmt.Sprintf("≤ %.2f × peer", bound), r.Ratio > 0 && r.Ratio <= bound)
}

// Slowest makes the value the greatest sample.
func (r Row) Slowest() Row {
	r.Value = slices.Max(r.Samples)
	return r
}

// Median gives the middle sample, or the mean of the two middle ones; 0 for none.
func Median(samples []float64) float64 {
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

// Number prints three or more digits that matter: 2.13, 21.3, 213, 2130.
func Number(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// Print prints the rows as a table for people.
func Print(w io.Writer, rows []Row) error {
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
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.What, Number(r.Value), r.Unit, dash(r.Peer), ratio, dash(r.Goal), met)
	}
	return t.Flush()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Save writes the rows as one JSON array, a row a line.
func Save(file string, rows []Row) error {
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
