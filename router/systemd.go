package router

import (
	"context"

	"gearmesh.dev/internal/hostexec"
)

// Systemd is the Supervisor of a host: a unit of type notify that runs "haproxy -Ws" and whose
// ExecReload sends SIGUSR2 to the main process.
type Systemd struct {
	Unit string // such as gear-haproxy.service
}

var _ Supervisor = Systemd{}

// NewSystemd gives the Supervisor of gear-haproxy.service, the unit that comes with Gearmesh.
func NewSystemd() Systemd { return Systemd{Unit: "gear-haproxy.service"} }

// Start implements Supervisor.
func (s Systemd) Start(ctx context.Context) error { return s.run(ctx, "start") }

// Reload implements Supervisor.
func (s Systemd) Reload(ctx context.Context) error { return s.run(ctx, "reload") }

func (s Systemd) run(ctx context.Context, verb string) error {
	_, err := hostexec.Run(ctx, hostexec.Cmd{Argv: []string{"systemctl", "--no-ask-password", verb, "--", s.Unit}})
	return err
}
