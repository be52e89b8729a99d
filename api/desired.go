package api

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Desired is all that one host should know and do: the pods assigned to it and the cluster's
// directory.
//
// A pod is stopped only by an entry that says so (Metadata.Deleting). A pod that is missing from
// Desired is left running and reported: an empty or lost desired state never means "delete all".
// The master keeps a deleted pod's entry until the host has reported it PhaseGone.
type Desired struct {
	Term      int64     `json:"term"`
	Revision  int64     `json:"revision"`
	Pods      []Pod     `json:"pods,omitempty"`
	Directory Directory `json:"directory,omitzero"`
	// Secrets are those that the pods need. They are never written to disk as they are.
	Secrets []SecretValue `json:"secrets,omitempty"`
	// Gossip are the keys of the mesh; nil when they are not told. The mesh keeps them in a file of its own.
	Gossip *GossipKeys `json:"gossip,omitempty"`
}

// Patch is a change from one Desired to the next: one line of the stream that an agent holds.
type Patch struct {
	Full      bool            `json:"full,omitempty" doc:"Replaces everything known; always true of a stream's first patch"`
	Term      int64           `json:"term" doc:"Term of the leader; a host refuses a lower one than it has seen"`
	Revision  int64           `json:"revision"`
	Pods      []Pod           `json:"pods,omitempty" doc:"Added or changed"`
	Services  []ServiceEntry  `json:"services,omitempty"`
	Hosts     []HostEntry     `json:"hosts,omitempty"`
	Aliases   []AliasEntry    `json:"aliases,omitempty"`
	Endpoints []HostEndpoints `json:"endpoints,omitempty"`
	Masters   []MasterEntry   `json:"masters,omitempty"`
	Revoked   []RevokedEntry  `json:"revoked,omitempty"`
	Secrets   []SecretValue   `json:"secrets,omitempty" doc:"Those that pods of this host need, with the values that they need"`
	Gossip    *GossipKeys     `json:"gossip,omitempty" doc:"The keys of the mesh, when they are news"`
	Every     Duration        `json:"every,omitempty" doc:"From here on the stream may be silent this long; 2 s until it says so. Said only to a host that sends Gear-Paced: 1"`
	Report    bool            `json:"report,omitempty" doc:"The host is to report at once"`
	Removed   []string        `json:"removed,omitempty" doc:"Keys that are no more: pod/UID, secret/PROJECT/NAME, service/PROJECT/NAME, host/NAME, alias/HOST, endpoints/HOST, master/NAME, revoked/HOST"`
}

// Empty tells whether the patch changes nothing of the desired state but the revision.
func (p Patch) Empty() bool {
	return !p.Full && p.Gossip == nil && len(p.Pods)+len(p.Services)+len(p.Hosts)+len(p.Aliases)+len(p.Endpoints)+len(p.Masters)+len(p.Revoked)+len(p.Secrets)+len(p.Removed) == 0
}

// OfPods tells whether the patch may change what the host runs, and not only what it knows of the cluster.
func (p Patch) OfPods() bool {
	return p.Full || len(p.Pods)+len(p.Secrets) > 0 || slices.ContainsFunc(p.Removed, func(key string) bool {
		return strings.HasPrefix(key, podPrefix) || strings.HasPrefix(key, secretPrefix)
	})
}

// FullPatch gives the patch that sets everything.
func FullPatch(d Desired) Patch {
	return Patch{Full: true, Term: d.Term, Revision: d.Revision, Pods: d.Pods, Services: d.Directory.Services,
		Hosts: d.Directory.Hosts, Aliases: d.Directory.Aliases, Endpoints: d.Directory.Endpoints, Masters: d.Directory.Masters, Revoked: d.Directory.Revoked, Secrets: d.Secrets, Gossip: d.Gossip}
}

// Diff gives the patch that makes to out of from.
func Diff(from, to Desired) Patch {
	p := Patch{Term: to.Term, Revision: to.Revision}
	p.Pods = changed(from.Pods, to.Pods, podKey, &p.Removed)
	p.Secrets = changed(from.Secrets, to.Secrets, secretValueKey, &p.Removed)
	if !reflect.DeepEqual(from.Gossip, to.Gossip) {
		p.Gossip = to.Gossip
	}
	p.Services = changed(from.Directory.Services, to.Directory.Services, serviceKey, &p.Removed)
	p.Hosts = changed(from.Directory.Hosts, to.Directory.Hosts, hostKey, &p.Removed)
	p.Aliases = changed(from.Directory.Aliases, to.Directory.Aliases, aliasKey, &p.Removed)
	p.Endpoints = changed(from.Directory.Endpoints, to.Directory.Endpoints, endpointsKey, &p.Removed)
	p.Masters = changed(from.Directory.Masters, to.Directory.Masters, masterKey, &p.Removed)
	p.Revoked = changed(from.Directory.Revoked, to.Directory.Revoked, revokedKey, &p.Removed)
	return p
}

// Apply gives the desired state after the patch. Lists come out sorted by key. Endpoints that a
// host itself has announced with a higher Seq are kept.
func (d Desired) Apply(p Patch) Desired {
	out := Desired{Term: p.Term, Revision: p.Revision}
	from := d
	if p.Full {
		from = Desired{}
	}
	out.Pods = patched(from.Pods, p.Pods, podKey, p.Removed)
	out.Secrets = patched(from.Secrets, p.Secrets, secretValueKey, p.Removed)
	if out.Gossip = from.Gossip; p.Gossip != nil {
		out.Gossip = p.Gossip
	}
	out.Directory.Services = patched(from.Directory.Services, p.Services, serviceKey, p.Removed)
	out.Directory.Hosts = patched(from.Directory.Hosts, p.Hosts, hostKey, p.Removed)
	out.Directory.Aliases = patched(from.Directory.Aliases, p.Aliases, aliasKey, p.Removed)
	out.Directory.Endpoints = patched(from.Directory.Endpoints, newest(d.Directory.Endpoints, p.Endpoints), endpointsKey, p.Removed)
	out.Directory.Masters = patched(from.Directory.Masters, p.Masters, masterKey, p.Removed)
	out.Directory.Revoked = patched(from.Directory.Revoked, p.Revoked, revokedKey, p.Removed)
	return out
}

// The first parts of keys in Patch.Removed that are of the host's own pods.
const (
	podPrefix    = "pod/"
	secretPrefix = "secret/"
)

func podKey(p Pod) string { return podPrefix + string(p.Metadata.UID) }
func secretValueKey(v SecretValue) string {
	return secretPrefix + string(v.Project) + "/" + string(v.Name)
}
func serviceKey(s ServiceEntry) string    { return "service/" + string(s.Project) + "/" + string(s.Name) }
func hostKey(h HostEntry) string          { return "host/" + string(h.Name) }
func aliasKey(a AliasEntry) string        { return "alias/" + string(a.Host) }
func endpointsKey(e HostEndpoints) string { return "endpoints/" + string(e.Host) }
func masterKey(m MasterEntry) string      { return "master/" + string(m.Name) }
func revokedKey(r RevokedEntry) string    { return "revoked/" + string(r.Host) }

// newest takes of each host's endpoints the value with the higher Seq.
func newest(known, news []HostEndpoints) []HostEndpoints {
	out := slices.Clone(news)
	for i, n := range out {
		for _, k := range known {
			if k.Host == n.Host && k.Seq > n.Seq {
				out[i] = k
			}
		}
	}
	return out
}

// changed gives the entries of to that from lacks or has otherwise, and adds the keys that only
// from has to removed.
func changed[T any](from, to []T, key func(T) string, removed *[]string) []T {
	old := index(from, key)
	var out []T
	for _, t := range to {
		k := key(t)
		if o, ok := old[k]; !ok || !reflect.DeepEqual(o, t) {
			out = append(out, t)
		}
		delete(old, k)
	}
	*removed = append(*removed, slices.Sorted(maps.Keys(old))...)
	return out
}

func patched[T any](from, put []T, key func(T) string, removed []string) []T {
	all := index(from, key)
	for _, k := range removed {
		delete(all, k)
	}
	for _, p := range put {
		all[key(p)] = p
	}
	if len(all) == 0 {
		return nil
	}
	out := slices.Collect(maps.Values(all))
	slices.SortFunc(out, func(a, b T) int { return strings.Compare(key(a), key(b)) })
	return out
}

func index[T any](list []T, key func(T) string) map[string]T {
	m := make(map[string]T, len(list))
	for _, v := range list {
		m[key(v)] = v
	}
	return m
}
