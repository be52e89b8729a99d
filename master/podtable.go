package master

import (
	"slices"

	"gearmesh.dev/api"
)

// podTable holds pods with their statuses side by side in memory. A snapshot of 150,000 pods is
// then one copy instead of as many look-ups.
type podTable struct {
	pods []api.Pod
	at   map[api.Key]int // place in pods
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
	t.pods[i] = t.pods[last]
	t.at[t.pods[i].Key()] = i
	t.pods[last] = api.Pod{}
	t.pods = t.pods[:last]
	delete(t.at, key)
}

// all gives a copy of every pod.
func (t *podTable) all() []api.Pod { return slices.Clone(t.pods) }
