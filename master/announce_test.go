package master

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
)

// fillCache gives a cache with hosts h1 to h3 and the service shop/web.
func fillCache(t *testing.T) (*cache, *announcer) {
	t.Helper()
	c := newCache()
	var items []store.Item
	for i := range 3 {
		h := hostsNamed(api.Name(fmt.Sprint("h", i+1)))[0]
		h.Spec.Address = netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
		items = append(items, store.Item{Key: storeKey(h.Key()), Value: mustJSON(h), Revision: 1})
	}
	items = append(items, store.Item{Key: storeKey(web("shop", "web").Key()), Value: mustJSON(web("shop", "web")), Revision: 1})
	if err := c.fill(items, 1); err != nil {
		t.Fatal(err)
	}
	return c, newAnnouncer(c, &views{cache: c, pulses: &pulses{}})
}

// put puts something into the store that the cache is of.
func (c *cache) put(t *testing.T, key string, v any) {
	t.Helper()
	if err := c.apply(store.Batch{Revision: c.revision + 1, Events: []store.Event{{Item: store.Item{Key: key, Value: mustJSON(v), Revision: c.revision + 1}}}}); err != nil {
		t.Fatal(err)
	}
}

// TestALineIsThePatch: what is put together from parts reads as the whole, whatever a directory has.
func TestALineIsThePatch(t *testing.T) {
	var d api.Directory
	v := reflect.ValueOf(&d).Elem()
	for i := range v.NumField() {
		v.Field(i).Set(reflect.MakeSlice(v.Field(i).Type(), 1, 1))
	}
	d.Hosts[0].Name = "h1"
	pod := api.Pod{}
	pod.Metadata.Name = "web-1"
	for name, l := range map[string]struct {
		got  hostLine
		want api.Patch
	}{
		"full": {fullLine(sent{Desired: api.Desired{Term: 3, Revision: 7, Pods: []api.Pod{pod}, Gossip: &api.GossipKeys{Seq: 2}}, directory: newDirectory(d)}),
			api.FullPatch(api.Desired{Term: 3, Revision: 7, Pods: []api.Pod{pod}, Directory: d, Gossip: &api.GossipKeys{Seq: 2}})},
		"nothing": {fullLine(sent{directory: newDirectory(api.Directory{})}), api.Patch{Full: true}},
		"removed": {patch(sent{}, sent{podSeq: 1, Desired: api.Desired{Pods: []api.Pod{pod}}}, &step{api.Patch{Removed: []string{"host/h2"}}, nil}),
			api.Patch{Pods: []api.Pod{pod}, Removed: []string{"host/h2"}}},
	} {
		text := slices.Concat(l.got.encode())
		var back, want api.Patch
		if err := api.Decode(text, &back); err != nil {
			t.Fatalf("%s: %s: %v", name, text, err)
		}
		if err := json.Unmarshal(mustJSON(l.want), &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(back, want) {
			t.Errorf("%s: %s, want %s", name, text, mustJSON(want))
		}
	}
}

// TestAnnouncements: a host that is one or several steps behind comes to the newest directory, and what changes nothing of it is
// no news.
func TestAnnouncements(t *testing.T) {
	c, a := fillCache(t)
	woken, leave := a.join()
	first, s := a.after(nil, 1)
	if s != nil || len(first.Hosts) != 3 || len(first.Services) != 1 {
		t.Fatalf("at first there are %+v and %+v", first.Directory, s)
	}
	labelled := web("shop", "web")
	labelled.Metadata.Labels = map[string]string{"a": "b"}
	c.put(t, storeKey(labelled.Key()), labelled)
	if a.refresh(1) {
		t.Error("a label of a service is news")
	}
	steps := []func(){
		func() { c.put(t, endpointsPrefix+"h2", api.HostEndpoints{Host: "h2", Seq: 1}) },
		func() { c.put(t, storeKey(web("shop", "db").Key()), web("shop", "db")) },
		func() { c.put(t, endpointsPrefix+"h1", api.HostEndpoints{Host: "h1", Seq: 2}) },
	}
	seen := []*directory{first}
	for _, do := range steps {
		do()
		if !a.refresh(1) {
			t.Error("a change is no news")
		}
		a.wake(t.Context())
		select {
		case <-woken:
		default:
			t.Error("nobody is told")
		}
		now, _ := a.after(seen[len(seen)-1], 1)
		seen = append(seen, now)
	}
	if leave(); len(a.streams) != 0 {
		t.Error("a stream that has ended is still told")
	}
	for i, from := range seen {
		now, s := a.after(from, 1)
		got := api.Desired{Directory: from.Directory}
		if s != nil {
			got = got.Apply(s.Patch)
		}
		if !reflect.DeepEqual(got.Directory, now.Directory) || (s == nil) != (i == len(seen)-1) {
			t.Errorf("from directory %d: %+v, want %+v", i, got.Directory, now.Directory)
		}
	}
}

// TestAHostIsWokenForItself: a change of one host's pods, or of a secret, wakes those that it concerns.
func TestAHostIsWokenForItself(t *testing.T) {
	c, _ := fillCache(t)
	woken := func(s <-chan struct{}) bool {
		select {
		case <-s:
			return true
		default:
			return false
		}
	}
	one, two := c.signals.of("h1"), c.signals.of("h2")
	pod := api.New(api.KindPod).(*api.Pod)
	pod.Metadata.Project, pod.Metadata.Name, pod.Spec.Host = "shop", "web-1", "h1"
	c.put(t, storeKey(pod.Key()), pod)
	if !woken(one) || woken(two) {
		t.Errorf("a pod of h1 wakes h1: %t, h2: %t", woken(one), woken(two))
	}
	one = c.signals.of("h1")
	c.put(t, storeKey(web("shop", "web").Key()), web("shop", "web"))
	if woken(one) || woken(two) {
		t.Error("a service wakes a host")
	}
	c.put(t, sealedPrefix+"shop/key", sealedRecord{})
	if !woken(one) || !woken(two) {
		t.Error("a secret wakes not all")
	}
	one = c.signals.of("h1")
	c.put(t, gossipKey, storedRing{Seq: 1, Keys: [][]byte{[]byte("key")}})
	if !woken(one) {
		t.Error("new keys of the mesh wake nobody")
	}
}

// TestViewsOfLargeClusters: a view that cost much serves reads for a while, one that cost little does not.
func TestViewsOfLargeClusters(t *testing.T) {
	c, a := fillCache(t)
	v := a.views
	old := v.current(1)
	old.cost = 100 * time.Millisecond
	c.put(t, storeKey(web("shop", "db").Key()), web("shop", "db"))
	if v.recent(1) != old {
		t.Error("a costly view is made anew for a read")
	}
	if v.recent(2) == old {
		t.Error("the view of an older leader serves")
	}
	old = v.current(2)
	old.cost = cheapView / 2
	c.put(t, storeKey(web("shop", "cache").Key()), web("shop", "cache"))
	if v.recent(2) == old || v.recent(2).version != c.versionNow() {
		t.Error("a cheap view is not made anew")
	}
}

func TestFingerprints(t *testing.T) {
	c := startCluster(t)
	of := func(text string) uint64 { return c.m.fingerprint([]byte(text)) }
	base := of(`{"host":"h1","revision":12,"pods":[]}`)
	if of(`{"host":"h1","revision": 4711,"pods":[]}`) != base {
		t.Error("another revision counts as news")
	}
	for _, other := range []string{`{"host":"h2","revision":12,"pods":[]}`, `{"host":"h1","revision":12,"pods":[1]}`, `{"host":"h1","pods":[]}`, `{"host":"h1","revision":"x","pods":[]}`, ``} {
		if of(other) == base {
			t.Errorf("%s counts as the same", other)
		}
	}
}
