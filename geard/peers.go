package geard

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"gearmesh.dev/api"
)

// Peers fetches the endpoints of another host from that host itself.
type Peers interface {
	Endpoints(ctx context.Context, host netip.Addr) (api.HostEndpoints, error)
}

// pullPeers fetches from each host that hints at endpoints newer than those known here. The
// master's stream usually brings them first; without a master this is how they come.
func (a *Agent) pullPeers(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	d := a.mem.get().Directory
	hints := a.cfg.Mesh.Hints()
	var pulls sync.WaitGroup
	places := make(chan struct{}, 4)
	for _, h := range d.Hosts {
		if h.Name != a.cfg.Name && hints[h.Name] > seqOf(d, h.Name) && !a.cfg.Mesh.Down(h.Name) {
			places <- struct{}{}
			pulls.Go(func() { a.pullPeer(ctx, h); <-places })
		}
	}
	pulls.Wait()
}

func (a *Agent) pullPeer(ctx context.Context, h api.HostEntry) {
	e, err := a.cfg.Peers.Endpoints(ctx, h.Address)
	if err != nil || e.Host != h.Name {
		a.log.Debug("a peer's endpoints cannot be fetched", "host", h.Name, "says", e.Host, "err", err)
		return
	}
	if a.mem.merge(e) {
		a.directoryChanged()
	}
}

func seqOf(d api.Directory, host api.Name) int64 {
	for _, e := range d.Endpoints {
		if e.Host == host {
			return e.Seq
		}
	}
	return 0
}
