package realhost

import (
	"slices"
	"testing"
	"time"

	"gearmesh.dev/internal/systemd"
)

func TestGivenUp(t *testing.T) {
	got := givenUp([]systemd.Unit{
		{Name: "docker.service", Load: "loaded", Active: "failed"},
		{Name: "containerd.service", Load: "loaded", Active: "failed", Job: "start"},
		{Name: "docker.socket", Load: "loaded", Active: "failed"},
	})
	if want := []string{"docker.socket", "docker.service"}; !slices.Equal(got, want) {
		t.Errorf("given up are %q, want %q", got, want)
	}
	for what, u := range map[string]systemd.Unit{
		"running":             {Load: "loaded", Active: "active"},
		"stopped by somebody": {Load: "loaded", Active: "inactive"},
		"to be restarted":     {Load: "loaded", Active: "activating"},
		"masked":              {Load: "masked", Active: "failed"},
		"not installed":       {Load: "not-found", Active: "inactive"},
	} {
		u.Name = "docker.service"
		if got := givenUp([]systemd.Unit{u}); len(got) != 0 {
			t.Errorf("a dockerd that is %s counts as given up", what)
		}
	}
}

func TestRevivalIsSpaced(t *testing.T) {
	var r revival
	start := time.Unix(1000, 0)
	var tries []int
	for s := range 200 {
		if r.due(true, start.Add(time.Duration(s)*time.Second)) {
			tries = append(tries, s)
		}
	}
	if want := []int{0, 2, 6, 14, 30, 62, 122, 182}; !slices.Equal(tries, want) {
		t.Errorf("tried at the seconds %v, want %v", tries, want)
	}
	if r.due(false, start.Add(time.Hour)) || !r.due(true, start.Add(2*time.Hour)) {
		t.Error("an engine that is well is revived, or one that failed after a good time is not, at once")
	}
	if r.due(true, start.Add(2*time.Hour+time.Second)) {
		t.Error("the second try comes at once")
	}
}
