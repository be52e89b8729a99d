package router

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/loop"
)

// endOld ends the connections that workers from before a reload hold to backends which are gone, as ends does with those of the worker
// that runs. An old worker's servers stay as they were at its end, so it is asked about them each time, as long as it lives.
func (b *Balancer) endOld(ctx context.Context) error {
	pids, err := b.oldWorkers(ctx)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		running, err := b.oldConfig(ctx, pid)
		if err != nil {
			return err
		}
		sessions, err := b.askMaster(ctx, "@!"+pid+" show sess")
		if err != nil {
			return err
		}
		for _, server := range b.gone(pid, running) {
			for _, id := range sessionsOf(sessions, server) {
				if _, err := b.askMaster(ctx, "@!"+pid+" shutdown session "+id); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// gone gives the servers of an old worker whose connections are to end.
func (b *Balancer) gone(pid string, running Config) (servers []string) {
	for _, was := range running.Backends {
		l, wanted := b.links[cmp.Or(was.For, was.ID)]
		for j, s := range was.Slots {
			server := was.ID + "/" + slotName(j)
			inUse := !s.IsValid() || slices.Contains(l.Backends, s)
			late := b.overdue(pid+" "+server, inUse, wanted, l.MaxDrain.Std())
			if late || !inUse && (!wanted || l.Retarget == api.Cut || b.down(s.Addr())) {
				servers = append(servers, server)
			}
		}
	}
	return servers
}

// sessionsOf reads the answer to "show sess": the ids of those with a server. An old worker does not take "shutdown sessions server",
// since its proxies are disabled.
func sessionsOf(answer, server string) (ids []string) {
	backend, name, _ := strings.Cut(server, "/")
	for line := range strings.Lines(answer) {
		f := strings.Fields(line)
		if len(f) > 1 && slices.Contains(f, "be="+backend) && slices.Contains(f, "srv="+name) {
			ids = append(ids, strings.TrimSuffix(f[0], ":"))
		}
	}
	return ids
}

// oldWorkers gives the pids of workers that have been replaced (management.txt, 9.4, "show proc").
func (b *Balancer) oldWorkers(ctx context.Context) ([]string, error) {
	answer, err := b.askMaster(ctx, "show proc")
	var pids []string
	old := false
	for line := range strings.Lines(answer) {
		f := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "#"):
			old = strings.HasPrefix(line, "# old workers")
		case old && len(f) > 1 && f[1] == "worker":
			pids = append(pids, f[0])
		}
	}
	return pids, err
}

func (b *Balancer) oldConfig(ctx context.Context, pid string) (c Config, err error) {
	servers, err := b.askMaster(ctx, "@!"+pid+" show servers state")
	if err != nil {
		return c, err
	}
	if c.Backends, err = parseServers(servers); err != nil {
		return c, err
	}
	ports, err := b.askMaster(ctx, "@!"+pid+" show map "+b.d.o.Settings.MapFile())
	c.Hosts = parseMap(ports)
	c.readMarkers()
	return c, err
}

// askMaster sends one command to HAProxy's master process, which passes on what begins with a worker's pid. While the master has hardly
// begun it answers nobody, and what has connected until then gets no answer ever (seen with 2.6), so that is tried again.
func (b *Balancer) askMaster(ctx context.Context, command string) (answer string, err error) {
	for within := answerTime / 64; within <= answerTime; within *= 2 {
		if answer, err = b.askMasterOnce(command, within); err == nil {
			return answer, nil
		}
		if !loop.Sleep(ctx, 50*time.Millisecond) {
			break
		}
	}
	return "", fmt.Errorf("asking HAProxy's master process %q: %w", command, err)
}

func (b *Balancer) askMasterOnce(command string, within time.Duration) (string, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: b.master, Net: "unix"})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return "", err
	}
	if err := conn.CloseWrite(); err != nil { // it closes its side only then
		return "", err
	}
	answer, err := io.ReadAll(io.LimitReader(conn, maxAnswer))
	return string(answer), err
}
