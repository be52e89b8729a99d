package geard

import (
	"context"
	"time"

	"gearmesh.dev/internal/loop"
)

// detachDelay is what other hosts get to fetch the last word of this one.
const detachDelay = 2 * time.Second

// Detach tells the cluster that this host's pods serve on without an agent: the mesh's word that the host has failed is then
// not believed of its endpoints. The next agent's first word takes that back. The master need not hear it.
func (a *Agent) Detach(ctx context.Context) error {
	a.detached.Store(true)
	a.announce(a.Endpoints().Endpoints)
	if err := a.mem.flush(); err != nil {
		return err
	}
	a.log.Info("this host goes on without its agent; the other hosts were told")
	a.sendReport(ctx)
	a.reportKick.Wake()
	loop.Sleep(ctx, detachDelay)
	return ctx.Err()
}
