package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
	"gearmesh.dev/contrib/install"
	"gearmesh.dev/contrib/story"
	"gearmesh.dev/internal/pki"
)

// The master of P8, in a process of its own, and what it takes of the machine.

// simPeople is how many people share the requests of P8: the master lets each ask a hundred times a second.
const simPeople = 8

// simEach is how many clients each of them has. A client keeps a few connections.
const simEach = 4

// simNice is the niceness of the master and of who asks it: the agents, which are on other machines in a real cluster, get what
// they leave of the processors.
const simNice = "-10"

// loneMaster is the address of a master that no other has to reach.
var loneMaster = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// simMaster is a real master with an embedded store, as a process of its own on loopback.
type simMaster struct {
	name, dir, at string
	address       netip.Addr
	cmd           *exec.Cmd
	log           string // the file of its log
	ca            *pki.CA
	tokens        []string         // of people
	people        []*client.Client // as simClients gives them
}

// startMaster makes a cluster's CA and people, and starts its only master.
func startMaster(ctx context.Context, geard string) (*simMaster, error) {
	m, err := newMaster("sim", loneMaster)
	if err != nil {
		return nil, err
	}
	if err = m.make(); err == nil {
		err = m.start(ctx, geard)
	}
	if err != nil {
		return nil, errors.Join(err, m.stop())
	}
	return m, nil
}

// newMaster finds a folder and a port for a master.
func newMaster(name string, address netip.Addr) (*simMaster, error) {
	dir, err := os.MkdirTemp("", "gear-bench")
	if err != nil {
		return nil, err
	}
	m := &simMaster{name: name, dir: dir, address: address, log: filepath.Join(dir, "log")}
	if m.at, err = freeAddress(address); err != nil {
		return nil, errors.Join(err, m.stop())
	}
	return m, nil
}

// freeAddress gives a port of an address that was free a moment ago.
func freeAddress(at netip.Addr) (string, error) {
	l, err := net.Listen("tcp", netip.AddrPortFrom(at, 0).String())
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// make makes a cluster's CA and people in a master's folder.
func (m *simMaster) make() (err error) {
	if m.ca, err = pki.NewCA(time.Now()); err != nil {
		return err
	}
	if err := m.ca.Save(m.dir); err != nil {
		return err
	}
	var list []install.Person
	for i := range simPeople {
		token := pki.NewSecret()
		list = append(list, install.Person{Name: api.Name("ann" + strconv.Itoa(i)), TokenHash: pki.HashSecret(token)})
		m.tokens = append(m.tokens, token)
	}
	if m.people, err = simClients(m.at, m.ca.PEM(), m.tokens); err != nil {
		return err
	}
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(m.dir, "people.json"), text, 0o600)
}

// start starts the process, and waits until it answers.
func (m *simMaster) start(ctx context.Context, geard string, more ...string) error {
	args := []string{"-n", simNice, geard, "master", "--dir", m.dir, "--listen", m.at, "--name", m.name}
	if m.address != loneMaster {
		args = append(args, "--address", m.address.String())
	}
	m.cmd = exec.Command("nice", append(args, more...)...)
	log, err := os.OpenFile(m.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	m.cmd.Stderr = log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		return fmt.Errorf("starting a master: %w", err)
	}
	return story.Until(ctx, 30*time.Second, func() error {
		if err := m.cmd.Process.Signal(syscall.Signal(0)); err != nil {
			return fmt.Errorf("the master has ended: %w: %s", err, m.last())
		}
		_, err := m.people[0].CreateToken(ctx, api.TokenRequest{})
		return err
	})
}

// kill ends the process at once.
func (m *simMaster) kill() error {
	if err := m.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("killing master %s: %w", m.name, err)
	}
	_ = m.cmd.Wait() // it says that it was killed
	m.cmd = nil
	return nil
}

// simClients makes simEach clients for each token, those of one as far apart as there are tokens.
func simClients(at string, ca []byte, tokens []string) (out []*client.Client, err error) {
	for i := range simEach * len(tokens) {
		c, err := client.New(client.Config{Server: at, CA: ca, ServerName: client.MasterName, Token: tokens[i%len(tokens)]})
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// stop ends the master and removes what it kept.
func (m *simMaster) stop() error {
	if m.cmd != nil && m.cmd.Process != nil {
		_ = m.cmd.Process.Kill() // it may have ended already; Wait tells nothing that is of interest then
		_ = m.cmd.Wait()
	}
	return os.RemoveAll(m.dir)
}

// last gives the end of the master's log.
func (m *simMaster) last() []byte {
	text, _ := os.ReadFile(m.log) // it says why something else went wrong
	return text[max(0, len(text)-1000):]
}

// waited gives how long the threads of the master have waited for a processor that others had, all together: the second number of
// /proc/PID/task/TID/schedstat (Linux, Documentation/scheduler/sched-stats.rst).
func (m *simMaster) waited() (all time.Duration, err error) {
	files, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(m.cmd.Process.Pid), "task/*/schedstat"))
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a thread that has just ended
		}
		var ran, waited int64
		if _, err := fmt.Sscan(string(text), &ran, &waited); err != nil {
			return 0, fmt.Errorf("reading %q: %w", file, err)
		}
		all += time.Duration(waited)
	}
	return all, nil
}

// usage gives what the master's process uses: its memory, and its processor time since it was started.
func (m *simMaster) usage() (process, error) {
	p := process{name: "geard master"}
	for _, file := range []string{"smaps_rollup", "stat"} {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(m.cmd.Process.Pid), file))
		if err != nil {
			return p, fmt.Errorf("reading what the master uses: %w: %s", err, m.last())
		}
		if err := p.readFile(file, text); err != nil {
			return p, err
		}
	}
	return p, nil
}

// readFile takes a whole file of /proc/PID.
func (p *process) readFile(file string, text []byte) error {
	if file == "stat" {
		return p.readStat(bytesFields(text))
	}
	for line := range bytes.Lines(text) {
		if f := bytesFields(line); len(f) > 1 {
			if err := p.read(f[0], f[1:]); err != nil {
				return err
			}
		}
	}
	return nil
}

func bytesFields(b []byte) (out []string) {
	for _, f := range bytes.Fields(b) {
		out = append(out, string(f))
	}
	return out
}

// cpu gives the share of one core that the master takes for a while, in percent, and what it uses at the end.
func (m *simMaster) cpu(ctx context.Context, while func() error) (float64, process, error) {
	before, err := m.usage()
	if err != nil {
		return 0, before, err
	}
	start := time.Now()
	err = while()
	took := time.Since(start)
	after, usageErr := m.usage()
	return 100 * (after.ticks - before.ticks) / ticksPerSecond / took.Seconds(), after, errors.Join(err, usageErr, ctx.Err())
}
