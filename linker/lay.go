package linker

import (
	"context"
	"strings"
)

// Lay puts r into a network namespace that was made just now and so has no rules at all. It looks
// at nothing first, which makes it half the work of Apply. Into any other namespace it would put second jumps.
func Lay(ctx context.Context, netns string, r Rules) error {
	for _, f := range families(r) {
		var b strings.Builder
		for _, t := range f.want {
			b.WriteString(t.fresh())
		}
		if err := HostChoice.restore(ctx, netns, f.tool, b.String()); err != nil {
			return err
		}
	}
	return nil
}
