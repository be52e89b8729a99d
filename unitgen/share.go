package unitgen

import "gearmesh.dev/api"

// shares writes how a pod stands to the other pods of its host when processors or disks are
// short. systemd's own default, 100, is left to it.
func shares(p *printer, t *api.PodTemplate) {
	if t.CPUWeight > 0 {
		p.number("CPUWeight", t.CPUWeight)
	}
	if t.IOWeight > 0 {
		p.yes("IOAccounting")
		p.number("IOWeight", t.IOWeight)
	}
}

// tasks gives how many processes and threads a pod may have: as many as its containers together,
// or its hungriest init container.
func tasks(t *api.PodTemplate) int {
	sum := 0
	for _, c := range t.Containers {
		sum += pids(c)
	}
	for _, c := range t.InitContainers {
		sum = max(sum, pids(c))
	}
	return max(sum, TasksPerContainer)
}

func pids(c api.Container) int {
	if c.Pids > 0 {
		return c.Pids
	}
	return TasksPerContainer
}
