package schedule

import (
	"math"

	"gearmesh.dev/api"
)

// What can be counted of a host, in the order in which it is looked at.
const (
	cpu    = iota // thousandths of a processor
	memory        // bytes
	ports         // of the host, for pods
	counted
)

// amount is so much of all that can be counted.
type amount [counted]int64

// endless is the amount of a host that does not say how much it has of something.
const endless = math.MaxInt64 / 2

// room is what a host has, and has left.
type room struct {
	has, free amount // free may be negative when a host shrank
	share     int32  // thousandths in use, of processors or memory, whichever is more
	pods      int32
}

func roomOf(s *api.HostStatus) room {
	has := amount{cpu: int64(s.Capacity.CPU), memory: int64(s.Capacity.Memory), ports: int64(s.HostPorts)}
	if s.HostPorts == 0 {
		has[ports] = endless
	}
	return room{has: has, free: has}
}

func (r *room) use(need amount) {
	r.free.subtract(need)
	r.pods++
	r.weigh()
}

// leave is the opposite of use.
func (r *room) leave(need amount) {
	r.free.add(need)
	r.pods--
	r.weigh()
}

func (r *room) weigh() {
	r.share = max(share(r.free[cpu], r.has[cpu]), share(r.free[memory], r.has[memory]))
}

// share gives the thousandths in use of a capacity. A host that has none of it is full.
func share(free, capacity int64) int32 {
	if capacity <= 0 || free <= 0 {
		return 1000
	}
	return int32((capacity - free) * 1000 / capacity)
}

// short gives the first of what does not suffice, or -1. What is not asked for suffices always.
func (a *amount) short(need *amount) int {
	for i, n := range need {
		if n > 0 && a[i] < n {
			return i
		}
	}
	return -1
}

func (a *amount) add(b amount) {
	for i, n := range b {
		a[i] += n
	}
}

func (a *amount) subtract(b amount) {
	for i, n := range b {
		a[i] -= n
	}
}

// NeedOf sums up what the containers of a template need; an init container, which runs alone, may need more.
func NeedOf(t *api.PodTemplate) api.Resources {
	var sum api.Resources
	for i := range t.Containers {
		sum.CPU += t.Containers[i].Resources.CPU
		sum.Memory += t.Containers[i].Resources.Memory
	}
	for i := range t.InitContainers {
		r := t.InitContainers[i].Resources
		sum = api.Resources{CPU: max(sum.CPU, r.CPU), Memory: max(sum.Memory, r.Memory)}
	}
	return sum
}

func needOf(t *api.PodTemplate) amount {
	r := NeedOf(t)
	return amount{int64(r.CPU), int64(r.Memory), int64(len(t.Ports))}
}

func (q *Request) need() amount {
	return amount{int64(q.Need.CPU), int64(q.Need.Memory), int64(q.Ports)}
}
