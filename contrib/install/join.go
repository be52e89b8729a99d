package install

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"gearmesh.dev/api"
	systemdunits "gearmesh.dev/contrib/systemd"
	"gearmesh.dev/internal/pki"
)

// JoinOptions say which cluster to join.
type JoinOptions struct {
	Options
	Master string // its address or name, with or without a port; 7443 is the default
	Token  string // from gear token create
	// AlsoMaster makes this host a further master too; the token must be one for it.
	AlsoMaster bool
}

// Join makes this host a member of the cluster of a master.
func Join(ctx context.Context, o JoinOptions) (Report, error) {
	i, err := o.complete()
	if err != nil {
		return Report{}, err
	}
	token, err := pki.ParseToken(o.Token)
	if err != nil {
		return Report{}, err
	}
	master, err := withPort(o.Master, i.MasterPort)
	if err != nil {
		return Report{}, err
	}
	steps := append(i.hostSteps(o.AlsoMaster, systemdunits.Host()...),
		step{name: "identity", do: func(ctx context.Context) (string, error) {
			return i.identity(ctx, master, token.Pin, func(context.Context) (string, error) { return o.Token, nil })
		}},
		step{name: "agent", do: i.agent},
	)
	if o.AlsoMaster {
		steps = append(steps, step{name: "units of a master", do: i.units(systemdunits.Master)},
			step{name: "master", do: func(ctx context.Context) (string, error) { return i.furtherMaster(ctx, master, o.Token) }})
	}
	return runSteps(ctx, i.Progress, steps)
}

// hostSteps are the steps that need no cluster.
func (i *installer) hostSteps(master bool, units ...string) []step {
	return []step{
		{name: "prerequisites", do: i.check},
		{name: "firewall", do: i.firewall(master), advises: true},
		{name: "binaries", do: i.binaries},
		{name: "dockerd", do: i.docker},
		{name: "units", do: i.units(units...)},
	}
}

// identity gets this host's certificate from a master, with the token that a function makes when it is needed.
func (i *installer) identity(ctx context.Context, master, pin string, token func(context.Context) (string, error)) (string, error) {
	dir := i.path(AgentDir)
	if ok, err := joined(dir, pin); ok || err != nil {
		return "", err
	}
	text, err := token(ctx)
	if err != nil {
		return "", err
	}
	ca, err := pki.FetchCA(ctx, master, pin)
	if err != nil {
		return "", err
	}
	w, err := i.waiter(dir, text)
	if err != nil {
		return "", err
	}
	got, keyPEM, err := w.ask(ctx, newCaller(master, ca, ""))
	if err != nil {
		return "", err
	}
	if _, err := tls.X509KeyPair([]byte(got.Certificate), keyPEM); err != nil {
		return "", fmt.Errorf("the master's answer has no certificate for this host's key: %w", err)
	}
	id := Identity{Name: got.Name, Address: i.Address, Domain: got.Domain, Master: master, Peers: got.Peers, CA: ca, GossipKey: got.GossipKey}
	if err := id.save(dir, keyPEM, []byte(got.Certificate)); err != nil {
		return "", err
	}
	if err := w.forget(); err != nil {
		return "", err
	}
	return fmt.Sprintf("joined %s as host %q, address %s", master, got.Name, i.Address), nil
}

// agent starts the agent and waits until it has heard the master: until its directory knows this host.
func (i *installer) agent(ctx context.Context) (string, error) {
	did, err := i.start(ctx, systemdunits.Target, systemdunits.Agent)
	if err != nil {
		return "", err
	}
	id, err := LoadIdentity(i.path(AgentDir))
	if err != nil {
		return "", err
	}
	err = i.await(ctx, "the agent to hear the master", "journalctl -u gear-agent -n 30", func(ctx context.Context) error {
		return i.hears(ctx, id.Name)
	})
	if err != nil || did == "" {
		return "", err
	}
	return fmt.Sprintf("%s; host %q is part of the cluster", did, id.Name), nil
}

// withPort gives host:port of what people write.
func withPort(s string, port uint16) (string, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, port).String(), nil
	}
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		host, p = s, strconv.Itoa(int(port))
	}
	_, badPort := strconv.ParseUint(p, 10, 16)
	_, noAddr := netip.ParseAddr(host)
	if badPort != nil || noAddr != nil && api.Hostname(host).Validate() != nil {
		return "", fmt.Errorf("master %q is no address and no name; write one such as 10.0.0.1:7443", s)
	}
	return net.JoinHostPort(host, p), nil
}

// requestTime bounds one request to the master.
const requestTime = 15 * time.Second
