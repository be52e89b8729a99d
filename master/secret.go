package master

import (
	"encoding/json"
	"fmt"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/seal"
	"gearmesh.dev/master/store"
)

// Sealer keeps values unreadable at rest. *seal.Key is one.
type Sealer interface {
	Seal(plain []byte, context string) []byte
	Open(box []byte, context string) ([]byte, error)
	Hash(value []byte, context string) string
}

var _ Sealer = seal.Key{}

// sealedRecord is a secret as it is stored, beside its resource, which has names and hashes alone.
type sealedRecord struct {
	Box []byte `json:"box"` // map[string][]byte as JSON, sealed for sealContext
}

func sealedKey(key api.Key) string {
	return sealedPrefix + string(key.Project) + "/" + string(key.Name)
}

// sealContext binds a sealed secret to its project and name.
func sealContext(key api.Key) string {
	return "secret/" + string(key.Project) + "/" + string(key.Name)
}

// seal takes the values out of a secret that a person has sent and gives the write that keeps
// them. Of other resources there is nothing to keep.
func (m *Master) seal(r api.Resource) ([]store.Op, error) {
	s, ok := r.(*api.Secret)
	if !ok {
		return nil, nil
	}
	if m.cfg.Secrets == nil {
		return nil, api.Errorf(api.CodeUnavailable, "this master has no key for secrets; it is made when geard master starts, in secret.key of its directory")
	}
	values, context := s.Spec.Values(), sealContext(s.Key())
	s.Spec = api.SecretSpec{Hashes: map[string]string{}}
	for k, v := range values {
		s.Spec.Hashes[k] = m.cfg.Secrets.Hash(v, context+"/"+k)
	}
	plain, err := json.Marshal(values)
	if err != nil {
		return nil, fmt.Errorf("sealing %s: %w", s.Key(), err)
	}
	record, err := json.Marshal(sealedRecord{Box: m.cfg.Secrets.Seal(plain, context)})
	return []store.Op{{Key: sealedKey(s.Key()), Value: record, If: store.Any}}, err
}

// inUse refuses to delete a secret that a service or its project still needs.
func (m *Master) inUse(key api.Key) error {
	if p, ok := m.cache.get(api.Key{Kind: api.KindProject, Name: key.Project}); ok {
		for _, r := range p.(*api.Project).Spec.Registries {
			if r.Secret == key.Name {
				return api.Errorf(api.CodeConflict, "%s is needed by project %s for registry %s; change the project first", key, key.Project, r.Host)
			}
		}
	}
	for _, r := range m.cache.list(api.KindService, key.Project) {
		s, ok := r.(*api.Service)
		if !ok || s.Metadata.Deleting {
			continue
		}
		for _, c := range s.Spec.All() {
			for _, ref := range c.Refs() {
				if ref.Secret == key.Name {
					return api.Errorf(api.CodeConflict, "%s is needed by %s; change the service first", key, s.Key())
				}
			}
		}
	}
	return nil
}

// secretsFor gives what pods need of secrets, and no value more. A secret or value that does not exist is
// left out; the host then says so of the pod.
func (m *Master) secretsFor(pods []api.Pod) []api.SecretValue {
	need := map[api.Key]map[string]bool{}
	for i := range pods {
		for _, ref := range pods[i].Spec.SecretRefs() {
			key := api.Key{Kind: api.KindSecret, Project: pods[i].Metadata.Project, Name: ref.Secret}
			if need[key] == nil {
				need[key] = map[string]bool{}
			}
			need[key][ref.Key] = true
		}
	}
	var out []api.SecretValue
	for key, names := range need {
		if v, ok := m.openSecret(key); ok {
			for k := range v.Data {
				if !names[""] && !names[k] {
					delete(v.Data, k)
				}
			}
			out = append(out, v)
		}
	}
	return out
}

// openSecret reads a secret's values from what is stored sealed.
func (m *Master) openSecret(key api.Key) (api.SecretValue, bool) {
	record, ok := m.cache.sealedOf(key)
	if !ok || m.cfg.Secrets == nil {
		return api.SecretValue{}, false
	}
	v := api.SecretValue{Project: key.Project, Name: key.Name}
	plain, err := m.cfg.Secrets.Open(record.Box, sealContext(key))
	if err == nil {
		err = json.Unmarshal(plain, &v.Data)
	}
	if err != nil {
		m.log.Error("a secret cannot be opened", "secret", key.String(), "err", err)
		return api.SecretValue{}, false
	}
	return v, true
}

// sealedOf gives a secret as it is stored.
func (c *cache) sealedOf(key api.Key) (sealedRecord, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	r, ok := c.sealed[key]
	return r, ok
}

// secretsSeq gives a number that grows when any secret changes.
func (c *cache) secretsSeq() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.sealSeq
}
