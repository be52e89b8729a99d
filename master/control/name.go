package control

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"sync"

	"gearmesh.dev/api"
)

// TemplateHash gives the hash of a template as it is stored, defaults filled in: 16 hexadecimal
// digits. Two templates that mean the same have the same hash when both were defaulted by the same
// version; the controllers compare the templates themselves before they believe a difference.
func TemplateHash(t *api.PodTemplate) string {
	text, err := json.Marshal(t)
	if err != nil {
		panic("a template that cannot be written as JSON: " + err.Error()) // it has no such field
	}
	return shortHash(text, 16)
}

// Hashes remembers the hashes of the templates of stored services. The zero value is ready.
type Hashes struct {
	mu sync.Mutex
	by map[api.Key]hashed
}

// hashed is the hash of a service's template at a revision.
type hashed struct {
	revision int64
	hash     string
}

// hash gives the hash of a service's template. Only the snapshot's own services are looked up: another one may say what is not stored.
func (v *View) hash(s *api.Service) string {
	if v.Hashes == nil || v.services[keyOf(s)] != s {
		return TemplateHash(&s.Spec.PodTemplate)
	}
	h := v.Hashes
	h.mu.Lock()
	defer h.mu.Unlock()
	key := s.Key()
	if known := h.by[key]; known.revision == s.Metadata.Revision && known.hash != "" {
		return known.hash
	}
	if h.by == nil || len(h.by) > 2*len(v.services) { // most of them are of services that are no more
		h.by = map[api.Key]hashed{}
	}
	now := hashed{s.Metadata.Revision, TemplateHash(&s.Spec.PodTemplate)}
	h.by[key] = now
	return now.hash
}

// shortHash gives the first n hexadecimal digits of the SHA-256.
func shortHash(b []byte, n int) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])[:n]
}

// suffixed gives a Name that starts as name does and ends with a hyphen and the suffix.
func suffixed(name api.Name, suffix string) api.Name {
	room := api.MaxNameLen - 1 - len(suffix)
	if len(name) > room {
		name = name[:room]
	}
	return api.Name(strings.TrimRight(string(name), "-") + "-" + suffix)
}

// names holds the unit names in use: PROJECT-POD names units on hosts, and so do PROJECT-POD-CONTAINER
// and PROJECT-POD-net, and "a-b" + "c" reads as "a" + "b-c" does.
type names struct{ taken map[string]podName }

// podName is a pod, as its host knows it.
type podName struct{ project, name api.Name }

func namesOf(pods []api.Pod) *names {
	n := &names{taken: make(map[string]podName, 2*len(pods))}
	for i := range pods {
		n.take(podName{pods[i].Metadata.Project, pods[i].HeldName()}, &pods[i].Spec.Template)
	}
	return n
}

func (n *names) take(pod podName, t *api.PodTemplate) {
	for _, u := range units(pod.project, pod.name, t) {
		n.taken[u] = pod
	}
}

// units gives the stems of a pod's unit names.
func units(project, pod api.Name, t *api.PodTemplate) []string {
	stem := string(project) + "-" + string(pod)
	out := []string{stem, stem + "-net"}
	if t.ShareProcesses {
		out = append(out, stem+"-pids")
	}
	for i := range t.InitContainers {
		out = append(out, stem+"-"+string(t.InitContainers[i].Name))
	}
	for i := range t.Containers {
		if i > 0 {
			out = append(out, stem+"-"+string(t.Containers[i].Name))
		}
	}
	return out
}

// next draws uids until one gives a name whose units are all free.
func (n *names) next(s *api.Service, newUID func() api.UID) (api.Name, api.UID) {
	for {
		uid := newUID()
		name := suffixed(s.Metadata.Name, string(uid[:5]))
		if pod := (podName{s.Metadata.Project, name}); n.free(pod, &s.Spec.PodTemplate) {
			n.take(pod, &s.Spec.PodTemplate)
			return name, uid
		}
	}
}

func (n *names) free(pod podName, t *api.PodTemplate) bool {
	for _, u := range units(pod.project, pod.name, t) {
		if _, taken := n.taken[u]; taken {
			return false
		}
	}
	return true
}

// clash gives the other pod that has a unit name which pod i of a service with identity needs. An earlier pod of that name is none.
func (n *names) clash(s *api.Service, i int) (podName, bool) {
	pod := podName{s.Metadata.Project, api.OrdinalName(s.Metadata.Name, i)}
	for _, u := range units(pod.project, pod.name, &s.Spec.PodTemplate) {
		if other, taken := n.taken[u]; taken && other != pod {
			return other, true
		}
	}
	return podName{}, false
}
