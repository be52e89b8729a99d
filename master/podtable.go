package master

import (
	"slices"
	"sync"

	"gearmesh.dev/api"
)

// podTable holds pods with their statuses side by side in memory. A snapshot of 150,000 pods is
// then one copy instead of as many look-ups, and most of it is made of the last one, while the cache is not held.
type podTable struct {
	pods []api.Pod
	at   map[api.Key]int // place in pods

	mu      sync.Mutex   // of those who take copies, which hold the cache for reading alone
	last    *podCopy     // the last copy, which nobody changes
	changed map[int]bool // places that are others since
}

// podCopy is all pods at one moment.
type podCopy struct{ pods []api.Pod }

// reset takes all pods out. The cache is held.
func (t *podTable) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pods, t.at = nil, map[api.Key]int{}
	t.last, t.changed = nil, nil
}

// put adds or replaces a pod. said is what its host last said of a pod with this name.
func (t *podTable) put(key api.Key, pod *api.Pod, said podRecord) {
	i, ok := t.at[key]
	if !ok {
		i = len(t.pods)
		t.at[key] = i
		t.pods = append(t.pods, api.Pod{})
	}
	t.pods[i] = *pod
	t.say(key, said)
}

// say sets a pod's status, when it is this pod's.
func (t *podTable) say(key api.Key, said podRecord) {
	i, ok := t.at[key]
	if !ok {
		return
	}
	t.touched(i)
	t.pods[i].Status = api.PodStatus{}
	if said.UID == t.pods[i].Metadata.UID {
		t.pods[i].Status = said.Status
	}
}

// remove takes a pod out; the last one moves to its place.
func (t *podTable) remove(key api.Key) {
	i, ok := t.at[key]
	if !ok {
		return
	}
	last := len(t.pods) - 1
	t.touched(i)
	t.pods[i] = t.pods[last]
	t.at[t.pods[i].Key()] = i
	t.pods[last] = api.Pod{}
	t.pods = t.pods[:last]
	delete(t.at, key)
}

// touched notes that a place is another than in the last copy.
func (t *podTable) touched(i int) {
	if t.last != nil {
		t.changed[i] = true
	}
}

// draft gives the last copy, and a new one of it to be brought up to date. Only this part of a copy takes long, and needs no lock.
func (t *podTable) draft() (from *podCopy, pods []api.Pod) {
	t.mu.Lock()
	from = t.last
	t.mu.Unlock()
	if from == nil {
		return nil, nil
	}
	return from, slices.Clone(from.pods)
}

// finish gives a copy of every pod, made of a draft. The cache is held, so that no pod changes.
func (t *podTable) finish(from *podCopy, pods []api.Pod) []api.Pod {
	t.mu.Lock()
	defer t.mu.Unlock()
	if from == nil || from != t.last || 4*len(t.changed) > len(t.pods) {
		pods = slices.Clone(t.pods)
	} else {
		n := len(t.pods)
		pods = append(pods[:min(n, len(pods))], t.pods[min(n, len(pods)):]...)
		for i := range t.changed {
			if i < n {
				pods[i] = t.pods[i]
			}
		}
	}
	t.last, t.changed = &podCopy{pods}, map[int]bool{}
	return pods
}
