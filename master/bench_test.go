package master

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
)

// large fills a cache with a big cluster: hosts with 30 pods each, services of 30 pods.
func large(b *testing.B, hosts int) (*cache, *pulses) {
	b.Helper()
	var items []store.Item
	add := func(key string, v any) {
		items = append(items, store.Item{Key: key, Value: mustJSON(v), Revision: int64(len(items) + 2)})
	}
	for h := range hosts {
		name := api.Name(fmt.Sprintf("h%d", h))
		host := hostsNamed(name)[0]
		host.Metadata.UID = api.UID(fmt.Sprintf("%016d", h))
		host.Spec.Address = netip.AddrFrom4([4]byte{10, 1, byte(h >> 8), byte(h)})
		add("host/"+string(name), host)
		add("hostinfo/"+string(name), hostInfo{Version: "v1", Seen: time.Unix(1, 0)})
		service := web("shop", fmt.Sprintf("s%d", h))
		add(storeKey(service.Key()), service)
		for n := range 30 {
			p := api.New(api.KindPod).(*api.Pod)
			p.Metadata.Project, p.Metadata.Name = "shop", api.Name(fmt.Sprintf("s%d-%d", h, n))
			p.Metadata.UID = api.UID(fmt.Sprintf("%08d%08d", h, n))
			p.Spec.Service, p.Spec.Host, p.Spec.Template = service.Metadata.Name, name, service.Spec.PodTemplate
			add(storeKey(p.Key()), p)
			add(podStatusPrefix+"shop/"+string(p.Metadata.Name), podRecord{p.Metadata.UID, api.PodStatus{Phase: api.PhaseRunning, Ready: true}})
		}
	}
	c := newCache()
	if err := c.fill(items, int64(len(items)+2)); err != nil {
		b.Fatal(err)
	}
	p := &pulses{}
	p.restart()
	return c, p
}

// BenchmarkView is the cost of one change in the cluster: a new snapshot, its indexes and the directory.
func BenchmarkView(b *testing.B) {
	for _, hosts := range []int{100, 1000, 5000} {
		b.Run(fmt.Sprintf("%dhosts", hosts), func(b *testing.B) {
			c, p := large(b, hosts)
			v := &views{cache: c, pulses: p}
			for b.Loop() {
				c.version++
				v.current(1)
			}
		})
	}
}

// BenchmarkIdle is the cost of a second in which nothing changes.
func BenchmarkIdle(b *testing.B) {
	c, p := large(b, 5000)
	v := &views{cache: c, pulses: p}
	v.current(1)
	for b.Loop() {
		v.now = v.now.at(time.Now().Add(-time.Hour))
		v.current(1)
	}
}

// BenchmarkPatch is the cost of telling one host of one changed endpoint among 5,000 hosts.
func BenchmarkPatch(b *testing.B) {
	c, p := large(b, 5000)
	v := &views{cache: c, pulses: p}
	a := newAnnouncer(c, v)
	m := &Master{cache: c, pulses: p, views: v, announcer: a}
	d, _ := a.after(nil, 1)
	before := m.desiredNow("h1", sent{}, 1, d)
	c.dirSeq++
	c.version++
	c.endpoints["h2"] = api.HostEndpoints{Host: "h2", Seq: 1}
	a.refresh(1)
	for b.Loop() {
		d, s := a.after(before.directory, 1)
		if p := patch(before, m.desiredNow("h1", before, 1, d), s); len(p.part) == 0 {
			b.Fatalf("got %+v", p)
		}
	}
}
