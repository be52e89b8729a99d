package master

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
)

// report answers PUT /v1/hosts/{name}/report. A report that says nothing new writes nothing: it
// only renews the host's lease, in memory.
func (m *Master) report(c *call) error {
	lead := m.lead.Load()
	if lead == nil {
		return notLeading()
	}
	name := c.name("name")
	said := stamp{m.fingerprint(c.body), m.cache.podSeqOf(name)}
	if m.pulses.renew(name, said) {
		return m.acknowledge(c, lead, name, said.mark())
	}
	var r api.HostReport
	if err := api.Decode(c.body, &r); err != nil {
		return err
	}
	if faults := reportFaults(name, &r); len(faults) > 0 {
		return api.Invalid("the report", faults)
	}
	clean(&r)
	for range maxAttempts {
		ops := m.news(name, &r)
		err := m.writeReport(c.Context(), ops, lead.Fence)
		if errors.Is(err, store.ErrConflict) {
			if m.term() != lead.Term {
				return notLeading()
			}
			continue // a pod changed meanwhile; look again
		}
		if err != nil {
			return err
		}
		news, ask := m.pulses.note(name, r.MeshDown, said)
		if news {
			m.work.Wake()
			m.notice.Wake()
		}
		m.cache.signals.wake(ask...)
		return m.acknowledge(c, lead, name, said.mark())
	}
	return api.Errorf(api.CodeConflict, "the host's pods change all the time; report again")
}

// heartbeat answers PUT /v1/hosts/{name}/heartbeat/{mark}: what the host last reported holds. Most of what a master hears is this.
func (m *Master) heartbeat(c *call) error {
	lead := m.lead.Load()
	if lead == nil {
		return notLeading()
	}
	name := c.name("name")
	hash, err := strconv.ParseUint(c.PathValue("mark"), markBase, 64)
	if err != nil || !m.pulses.renew(name, stamp{hash, m.cache.podSeqOf(name)}) {
		return api.Errorf(api.CodeConflict, "this master does not know the report that the mark stands for, or its pods have changed since; send the report")
	}
	return m.acknowledge(c, lead, name, "")
}

// markBase is the base of a mark, which is a report's hash as a number.
const markBase = 36

// mark gives what stands for a report.
func (s stamp) mark() api.Name { return api.Name(strconv.FormatUint(s.hash, markBase)) }

// fingerprint tells a report from one that says something else, without reading it. The revision that the host has is left
// out: it grows with what any host is told, and nothing follows from it.
func (m *Master) fingerprint(body []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(m.seed)
	before, rest, ok := bytes.Cut(body, []byte(`"revision":`))
	if ok {
		rest = bytes.TrimLeft(rest, " 0123456789")
	}
	_, _ = h.Write(before) // it never fails
	_ = h.WriteByte(0)
	_, _ = h.Write(rest)
	return h.Sum64()
}

// writeReport writes what is new, in transactions that an outside etcd takes.
func (m *Master) writeReport(ctx context.Context, ops [][]store.Op, fence store.Op) error {
	for batch := range slices.Chunk(ops, maxBatch) {
		if _, err := m.txn(ctx, append(slices.Concat(batch...), fence)...); err != nil {
			return err
		}
	}
	return nil
}

// news gives the writes that bring the store to what a host reports.
func (m *Master) news(name api.Name, r *api.HostReport) [][]store.Op {
	c := m.cache
	c.mu.RLock()
	defer c.mu.RUnlock()
	var ops [][]store.Op
	var unknown []string
	for _, p := range r.Pods {
		key := api.Key{Kind: api.KindPod, Project: p.Project, Name: p.Name}
		pod := c.byHost[name][key]
		if pod == nil || pod.Metadata.UID != p.UID {
			if p.Status.Phase != api.PhaseGone {
				unknown = append(unknown, fmt.Sprintf("%s/%s (%s)", p.Project, p.Name, p.UID))
			}
			continue
		}
		rec := podRecord{UID: p.UID, Status: p.Status}
		if old, ok := c.statuses[key]; !ok || !sameJSON(old, rec) {
			news := []store.Op{
				{Key: podStatusPrefix + string(p.Project) + "/" + string(p.Name), Value: mustJSON(rec), If: store.Any},
				// A status must not outlive its pod.
				{Kind: store.Check, Key: storeKey(key), If: pod.Metadata.Revision},
			}
			if old.UID != p.UID {
				old.Status = api.PodStatus{}
			}
			for _, e := range foundOut(pod, old.Status, p.Status) {
				news = append(news, c.eventOpLocked(e, time.Now()))
			}
			ops = append(ops, news)
		}
	}
	endpoints, refused := ownEndpoints(c.byHost[name], c.addressOfLocked(name), r.Endpoints)
	if old, ok := c.endpoints[name]; (!ok || endpoints.Seq >= old.Seq) && !sameJSON(old, endpoints) {
		ops = append(ops, []store.Op{{Key: endpointsPrefix + string(name), Value: mustJSON(endpoints), If: store.Any}})
	}
	info := hostInfo{Version: r.Version, Capacity: r.Capacity, HostIPv6: r.HostIPv6, HostOffer: r.HostOffer, Conditions: conditions(r.Conditions, unknown, refused), Gossip: r.Gossip}
	old, ok := c.hostInfos[name]
	old.Seen = time.Time{}
	if !ok || !sameJSON(old, info) {
		info.Seen = time.Now().UTC().Truncate(time.Millisecond)
		ops = append(ops, []store.Op{{Key: hostInfoPrefix + string(name), Value: mustJSON(info), If: store.Any}})
	}
	return ops
}

func (c *cache) podSeqOf(host api.Name) int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.podSeq[host]
}

func (c *cache) addressOfLocked(name api.Name) netip.Addr {
	if h, ok := c.objects[api.KindHost][api.Key{Kind: api.KindHost, Name: name}].(*api.Host); ok {
		return h.Spec.Address
	}
	return netip.Addr{}
}

// ownEndpoints leaves of the endpoints that a host reports those that are its own to report: of
// pods assigned to it, at its own address. A host that was broken into can lie about its pods,
// but draws no traffic of others.
func ownEndpoints(pods map[api.Key]*api.Pod, address netip.Addr, got api.HostEndpoints) (own api.HostEndpoints, refused int) {
	own = api.HostEndpoints{Host: got.Host, Seq: got.Seq, Detached: got.Detached}
	for _, e := range got.Endpoints {
		pod := pods[api.Key{Kind: api.KindPod, Project: e.Project, Name: e.Pod}]
		if pod == nil {
			continue // it has just been removed; the host will hear of it
		}
		if pod.Spec.Service != e.Service || e.Address.Addr().Unmap() != address.Unmap() {
			refused++
			continue
		}
		own.Endpoints = append(own.Endpoints, e)
	}
	return own, refused
}

// maxConditions bounds what is kept of a host's complaints.
const maxConditions = 16

// conditions adds what the master finds odd in a report to what the host itself says.
func conditions(own []api.Condition, unknown []string, refused int) []api.Condition {
	out := slices.Clone(own[:min(len(own), maxConditions)])
	if len(unknown) > 0 {
		slices.Sort(unknown)
		out = append(out, api.Condition{Reason: api.ReasonUnknownPod,
			Message: fmt.Sprintf("%d pods run there that the master has not assigned to it: %s", len(unknown), some(unknown))})
	}
	if refused > 0 {
		out = append(out, api.Condition{Reason: api.ReasonHostError,
			Message: fmt.Sprintf("%d endpoints it reports are not its own and are ignored", refused)})
	}
	return out
}

// some gives the first few of a list.
func some(list []string) string {
	const few = 5
	if len(list) > few {
		list = append(slices.Clone(list[:few]), "…")
	}
	return strings.Join(list, ", ")
}

// reportFaults checks what the rest of the master relies on.
func reportFaults(name api.Name, r *api.HostReport) []api.Fault {
	var faults []api.Fault
	add := func(field string, err error) {
		if err != nil && len(faults) < 20 {
			faults = append(faults, api.Fault{Field: field, Message: err.Error()})
		}
	}
	if r.Host != name {
		add("host", fmt.Errorf("is %q, but the path says %q", r.Host, name))
	}
	if r.Endpoints.Host != name && (r.Endpoints.Host != "" || len(r.Endpoints.Endpoints) > 0) {
		add("endpoints.host", fmt.Errorf("is %q, but the path says %q", r.Endpoints.Host, name))
	}
	if r.Gossip < 0 {
		add("gossip", fmt.Errorf("%d is no Seq; it is a number from 0", r.Gossip))
	}
	add("ipv6", r.HostIPv6.Validate())
	add("maxPolicy", r.MaxPolicy.Validate())
	if len(r.VolumeClasses) > maxClasses {
		add("volumeClasses", fmt.Errorf("there are %d; a host may have %d", len(r.VolumeClasses), maxClasses))
	}
	for i, c := range r.VolumeClasses {
		add(fmt.Sprintf("volumeClasses[%d]", i), c.Validate())
	}
	for i, p := range r.Pods {
		at := fmt.Sprintf("pods[%d].", i)
		add(at+"uid", p.UID.Validate())
		add(at+"project", p.Project.Validate())
		add(at+"name", p.Name.Validate())
		add(at+"status.phase", phase(p.Status.Phase))
	}
	for i, d := range r.MeshDown {
		add(fmt.Sprintf("meshDown[%d]", i), d.Validate())
	}
	for i, e := range r.Endpoints.Endpoints {
		if !e.Address.IsValid() {
			add(fmt.Sprintf("endpoints.endpoints[%d].address", i), errors.New("an address and a port are needed, such as 10.0.0.1:20001"))
		}
		add(fmt.Sprintf("endpoints.endpoints[%d].port", i), e.Port.Validate())
	}
	return faults
}

// maxClasses bounds the volume classes of a host.
const maxClasses = 100

func phase(p api.Phase) error {
	switch p {
	case api.PhasePending, api.PhasePulling, api.PhaseStarting, api.PhaseRunning, api.PhaseBackOff,
		api.PhaseStopped, api.PhaseStopping, api.PhaseGone, api.PhaseUnknown:
		return nil
	}
	return fmt.Errorf("%.40q is not known; write one such as %q", string(p), api.PhaseRunning)
}

// clean makes a report comparable with the one before, and harmless to print.
func clean(r *api.HostReport) {
	r.Endpoints.Host = r.Host
	r.Version = plain(r.Version)
	for i := range r.Pods {
		s := &r.Pods[i].Status
		s.Seen = time.Time{} // kept as the host's, in memory
		s.Message, s.Reason = plain(s.Message), api.Reason(plain(string(s.Reason)))
		for j := range s.Containers {
			k := &s.Containers[j]
			k.Message, k.Reason = plain(k.Message), api.Reason(plain(string(k.Reason)))
			k.Unit, k.ID = plain(k.Unit), plain(k.ID)
		}
	}
	for i := range r.Conditions {
		r.Conditions[i].Message = plain(r.Conditions[i].Message)
		r.Conditions[i].Reason = api.Reason(plain(string(r.Conditions[i].Reason)))
	}
	slices.Sort(r.MeshDown)
	r.MeshDown = slices.Compact(r.MeshDown)
}

// maxText is what is kept of a text that a host sends, in bytes.
const maxText = 2048

// plain gives a host's text short and printable.
func plain(s string) string {
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return printable(s)
}

// printable takes from a text what would end a line or drive a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return r
		case r == '\n':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r):
			return -1
		}
		return r
	}, s)
}

// mustJSON encodes what always can be: this package's records of api types.
func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encoding a %T: %v", v, err))
	}
	return data
}

// sameJSON compares as the store would keep them; reflect.DeepEqual tells nil from empty.
func sameJSON(a, b any) bool { return bytes.Equal(mustJSON(a), mustJSON(b)) }

func sortPods(pods []api.Pod) {
	slices.SortFunc(pods, func(a, b api.Pod) int { return cmp.Compare(a.Metadata.UID, b.Metadata.UID) })
}
