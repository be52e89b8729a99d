package master

import (
	"encoding/json"
	"fmt"
	"strings"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
)

// The store's keys. Resources stand under their kind: "service/shop/web", "host/h1".
const (
	podStatusPrefix = "podstatus/" // + PROJECT/NAME: podRecord
	endpointsPrefix = "endpoints/" // + HOST: api.HostEndpoints
	hostInfoPrefix  = "hostinfo/"  // + HOST: hostInfo
	hostKeyPrefix   = "hostkey/"   // + HOST: hostKeys
	sealedPrefix    = "sealed/"    // + PROJECT/NAME: sealedRecord
	revokedPrefix   = "revoked/"   // + HOST: revokedRecord
	tokenPrefix     = "token/"     // + ID: tokenRecord
	pendingPrefix   = "pending/"   // + NAME: pendingRecord
	masterPrefix    = "master/"    // + NAME: masterRecord
	oncePrefix      = "once/"      // + hash of caller and key: onceRecord
	gossipKey       = "gossipkey"  // storedRing
	healthKey       = "health"     // healthRecord
	freshKey        = "fresh"      // written only for its revision
	termBaseKey     = "termbase"   // a number that is added to all terms, since a restore
)

// kindWord gives the first part of a kind's store keys.
func kindWord(k api.Kind) string { return strings.ToLower(string(k)) }

// storeKey gives where a resource is stored.
func storeKey(k api.Key) string {
	if k.Kind.InProject() {
		return kindWord(k.Kind) + "/" + string(k.Project) + "/" + string(k.Name)
	}
	return kindWord(k.Kind) + "/" + string(k.Name)
}

// parseKey is the inverse of storeKey; other keys give false.
func parseKey(key string) (api.Key, bool) {
	word, rest, _ := strings.Cut(key, "/")
	for _, kind := range api.Kinds() {
		if kindWord(kind) != word {
			continue
		}
		if !kind.InProject() {
			return api.Key{Kind: kind, Name: api.Name(rest)}, true
		}
		project, name, ok := strings.Cut(rest, "/")
		return api.Key{Kind: kind, Project: api.Name(project), Name: api.Name(name)}, ok
	}
	return api.Key{}, false
}

// encode gives a resource as it is stored: without its status, which is kept apart or computed,
// and without its revision, which is the store's.
func encode(r api.Resource) ([]byte, error) {
	r = bare(r)
	r.Head().Metadata.Revision = 0
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", r.Head().Key(), err)
	}
	return data, nil
}

// decode reads a stored resource.
func decode(kind api.Kind, it store.Item) (api.Resource, error) {
	r := api.New(kind)
	if err := json.Unmarshal(it.Value, r); err != nil {
		return nil, fmt.Errorf("reading %q from the store: %w", it.Key, err)
	}
	r.Head().Metadata.Revision = it.Revision
	return r, nil
}

// bare gives a copy of a resource without its status. What it points to is shared: resources
// are replaced, never changed, once they are in the cache.
func bare(r api.Resource) api.Resource {
	switch v := r.(type) {
	case *api.Project:
		c := *v
		return &c
	case *api.Service:
		c := *v
		c.Status = api.ServiceStatus{}
		return &c
	case *api.Pod:
		c := *v
		c.Status = api.PodStatus{}
		return &c
	case *api.Host:
		c := *v
		c.Status = api.HostStatus{}
		return &c
	case *api.Secret:
		c := *v
		return &c
	case *api.Alias:
		c := *v
		c.Status = api.AliasStatus{}
		return &c
	}
	return nil
}
