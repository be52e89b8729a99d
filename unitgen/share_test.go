package unitgen

import (
	"testing"

	"gearmesh.dev/api"
)

func TestShares(t *testing.T) {
	var p printer
	shares(&p, &api.PodTemplate{PodOptions: api.PodOptions{CPUWeight: 50, IOWeight: 200}})
	if got, want := p.b.String(), "CPUWeight=50\nIOAccounting=yes\nIOWeight=200\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	few := api.Container{ContainerOptions: api.ContainerOptions{Pids: 10}}
	many := api.Container{ContainerOptions: api.ContainerOptions{Pids: 9000}}
	for want, pod := range map[int]api.PodTemplate{
		TasksPerContainer:     {Containers: []api.Container{few}},
		TasksPerContainer + 1: {Containers: []api.Container{{}, {ContainerOptions: api.ContainerOptions{Pids: 1}}}},
		9000:                  {Containers: []api.Container{{}}, InitContainers: []api.Container{many}},
	} {
		if got := tasks(&pod); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	}
}
