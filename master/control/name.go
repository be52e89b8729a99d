package control

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"

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
type names struct{ taken map[string]bool }

func namesOf(pods []api.Pod) *names {
	n := &names{taken: make(map[string]bool, 2*len(pods))}
	for i := range pods {
		n.take(pods[i].Metadata.Project, pods[i].Metadata.Name, &pods[i].Spec.Template)
	}
	return n
}

func (n *names) take(project, pod api.Name, t *api.PodTemplate) {
	for _, u := range units(project, pod, t) {
		n.taken[u] = true
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
		if n.free(units(s.Metadata.Project, name, &s.Spec.PodTemplate)) {
			n.take(s.Metadata.Project, name, &s.Spec.PodTemplate)
			return name, uid
		}
	}
}

func (n *names) free(units []string) bool {
	for _, u := range units {
		if n.taken[u] {
			return false
		}
	}
	return true
}
