package main

import (
	"net/http"
	"slices"
	"time"

	"gearmesh.dev/api"
)

// replaceLocked keeps what a service was before, as the master does.
func (m *fakeMaster) replaceLocked(next *api.Service) {
	if old, ok := m.objects[next.Key()].(*api.Service); ok {
		v := api.ServiceRevision{Generation: old.Metadata.Generation, Until: time.Now(), By: "person:ann", Spec: old.Spec}
		m.past[next.Key()] = append(m.past[next.Key()], v)
		next.Metadata.Generation = old.Metadata.Generation
	}
	next.Metadata.Generation++
}

// history answers with what a service is and was.
func (m *fakeMaster) history(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := key(api.KindService, r)
	s, ok := m.objects[k].(*api.Service)
	if !ok {
		refuse(w, api.Errorf(api.CodeNotFound, "there is no %s", k))
		return
	}
	out := append(slices.Clone(m.past[k]), api.ServiceRevision{Generation: s.Metadata.Generation, Spec: s.Spec})
	slices.Reverse(out)
	answer(w, api.ServiceHistory{Items: out})
}
