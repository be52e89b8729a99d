package story

import (
	"context"
	"fmt"
	"strings"
)

// Resolver shows the names of the cluster to the programs of a host, whose resolver is systemd-resolved, by the commands of
// docs/network.md.
func Resolver() []Step {
	return []Step{{"systemd-resolved on h3 asks the host's DNS server for our domain: A, SRV, and a name that is none", askResolved}}
}

const useResolved = `
systemctl unmask --quiet systemd-resolved.service
systemctl start systemd-resolved.service
resolvectl dns gear0 10.127.0.1
resolvectl domain gear0 '~gear.internal'`

func askResolved(ctx context.Context, w *World) (err error) {
	if _, err := w.Exec(ctx, "h3", "sh", "-euc", useResolved); err != nil {
		return err
	}
	defer func() {
		if _, stop := w.Exec(ctx, "h3", "systemctl", "mask", "--quiet", "--now", "systemd-resolved.service"); err == nil {
			err = stop
		}
	}()
	questions := []struct {
		argv []string
		want string
	}{
		{[]string{"resolvectl", "query", "-4", "h1.host.gear.internal"}, w.Address("h1").String()},
		{[]string{"resolvectl", "query", "--type=SRV", "web.guestbook.gear.internal"}, ".pod.guestbook.gear.internal"},
		{[]string{"dig", "+short", "@127.0.0.53", "h2.host.gear.internal"}, w.Address("h2").String()},
		{[]string{"sh", "-c", "resolvectl query nobody.guestbook.gear.internal 2>&1 || true"}, "not found"},
	}
	for _, q := range questions {
		err := Until(ctx, Patience, func() error {
			out, err := w.Exec(ctx, "h3", q.argv...)
			if err != nil || !strings.Contains(out, q.want) {
				err = fmt.Errorf("%q: %v, want %q in\n%s", q.argv, err, q.want, out)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
