package master

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"gearmesh.dev/api"
)

// TestManyHosts tells 100 hosts of one endpoint, and lets each of them hear of all others.
func TestManyHosts(t *testing.T) {
	c := startCluster(t)
	c.beat()
	ann := c.ann()
	var hosts []*user
	for i := range 100 {
		h := c.join(fmt.Sprintf("h%d", i), fmt.Sprintf("10.0.1.%d", i+1))
		h.tell(h.report())
		hosts = append(hosts, h)
	}
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	svc := web("shop", "web")
	svc.Spec.Replicas = new(int)
	*svc.Spec.Replicas = len(hosts)
	ann.must("PUT", "/v1/projects/shop/services/web", svc, http.StatusCreated)
	var wg sync.WaitGroup
	for _, h := range hosts {
		d := h.desire()
		wg.Go(func() {
			d.until("its pod", func(d api.Desired) bool { return len(d.Pods) == 1 })
			address := d.Directory.Hosts[0].Address // found below by name
			for _, e := range d.Directory.Hosts {
				if e.Name == h.name {
					address = e.Address
				}
			}
			h.tell(h.running(d.Pods[0], address.String()+":20000"))
			d.until("all endpoints", func(d api.Desired) bool { return len(d.Directory.Backends("shop", "web", "http")) == len(hosts) })
		})
	}
	wg.Wait()
	if s := read[api.Service](t, ann.must("GET", "/v1/projects/shop/services/web", nil, http.StatusOK)); s.Status.Ready != len(hosts) {
		t.Errorf("got %+v", s.Status)
	}
}
