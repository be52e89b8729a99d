package unitgen

import (
	"strings"

	"gearmesh.dev/api"
)

// Changes compares the units of two pods that bear one name; nil stands for no pod. A pod's unit files never change: another
// pod takes the place of the one that had them.
func Changes(was, will *api.Pod) ([]api.UnitChange, error) {
	before, err := texts(was)
	if err != nil {
		return nil, err
	}
	after, err := texts(will)
	if err != nil {
		return nil, err
	}
	var out []api.UnitChange
	for _, f := range before {
		i := find(after, f.Name)
		switch {
		case i < 0:
			out = append(out, change(f, "removed", f.Text, ""))
		case after[i].Text != f.Text:
			out = append(out, change(f, "changed", f.Text, after[i].Text))
		}
	}
	for _, f := range after {
		if find(before, f.Name) < 0 {
			out = append(out, change(f, "added", "", f.Text))
		}
	}
	return out, nil
}

func texts(pod *api.Pod) ([]File, error) {
	if pod == nil {
		return nil, nil
	}
	return Render(*pod)
}

func find(files []File, name string) int {
	for i := range files {
		if files[i].Name == name {
			return i
		}
	}
	return -1
}

// change gives one change, with the lines that go and come where a file stays.
func change(f File, what, was, will string) api.UnitChange {
	c := api.UnitChange{Unit: f.Name, Change: what}
	if was != "" && will != "" {
		c.Diff = prefixed("-", was, will) + prefixed("+", will, was)
	}
	return c
}

// prefixed gives the lines of a text that another has fewer of.
func prefixed(sign, text, other string) string {
	n := map[string]int{}
	for l := range strings.Lines(other) {
		n[l]++
	}
	var b strings.Builder
	for l := range strings.Lines(text) {
		if n[l]--; n[l] < 0 {
			b.WriteString(sign + l)
		}
	}
	return b.String()
}
