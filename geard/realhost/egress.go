package realhost

import (
	"context"
	"net/netip"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podnet"
	"gearmesh.dev/linker"
)

// Talking implements geard.Machine.
func (h *Host) Talking(ctx context.Context) (func(pod, to netip.Addr) bool, error) {
	return linker.Talking(ctx, "")
}

// Refused implements geard.Explainer.
func (h *Host) Refused(ctx context.Context, uid api.UID) (uint64, error) {
	counts, err := linker.HostChoice.Refused(ctx, "")
	return counts[podnet.VethName(uid)], err
}

// WatchRefused calls refused for packets that pods' egress refuses, until ctx ends. A kernel that cannot tell of them only counts them.
func (h *Host) WatchRefused(ctx context.Context, refused func(linker.Refusal)) error {
	if err := linker.WatchRefused(ctx, refused); err != nil && ctx.Err() == nil {
		h.log.Warn("what pods' egress refuses is counted and not logged", "err", err)
		<-ctx.Done()
	}
	return nil
}
