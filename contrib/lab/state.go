package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
)

// state is what is fixed when a lab is made: StateDir/LAB/lab.json.
type state struct {
	Subnet netip.Prefix `json:"subnet"`
	// Tree is the directory of the root tree. The hosts' upper layers are
	// differences to exactly this tree, so it stays theirs until Down.
	Tree string `json:"tree"`
}

// errNoLab says that the lab was never made, or taken down.
var errNoLab = errors.New("no such lab")

func (l *Lab) loadState() (state, error) {
	return readState(filepath.Join(l.dir(), "lab.json"), l.cfg.Name)
}

func readState(file, name string) (state, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, fmt.Errorf("lab %q: %w; make it with \"gear lab up\"", name, errNoLab)
	}
	if err != nil {
		return state{}, fmt.Errorf("reading lab %q: %w", name, err)
	}
	var s state
	if err := json.Unmarshal(text, &s); err != nil {
		return state{}, fmt.Errorf("reading %q: %w; take the lab down and up again", file, err)
	}
	return s, nil
}

func (l *Lab) saveState(s state) error {
	text, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return fmt.Errorf("encoding the state of lab %q: %w", l.cfg.Name, err)
	}
	if err := os.MkdirAll(l.hostsDir(), 0o755); err != nil {
		return fmt.Errorf("making lab %q: %w", l.cfg.Name, err)
	}
	if err := renameio.WriteFile(filepath.Join(l.dir(), "lab.json"), append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing the state of lab %q: %w", l.cfg.Name, err)
	}
	return nil
}

// otherSubnets lists the networks of this machine's labs, running or not.
func (l *Lab) otherSubnets() ([]netip.Prefix, error) {
	files, err := filepath.Glob(filepath.Join(l.cfg.StateDir, "*", "lab.json"))
	if err != nil {
		return nil, fmt.Errorf("listing labs: %w", err)
	}
	var subnets []netip.Prefix
	for _, file := range files {
		name := filepath.Base(filepath.Dir(file))
		if s, err := readState(file, name); err == nil && name != l.cfg.Name {
			subnets = append(subnets, s.Subnet)
		}
	}
	return subnets, nil
}

// knownHosts lists the hosts that have a disk, h2 before h10.
func (l *Lab) knownHosts(subnet netip.Prefix) ([]host, error) {
	entries, err := os.ReadDir(l.hostsDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing the hosts of lab %q: %w", l.cfg.Name, err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return l.sortedHosts(names, subnet), nil
}

// sortedHosts makes hosts of names, without doubles and strangers.
func (l *Lab) sortedHosts(names []string, subnet netip.Prefix) []host {
	var hosts []host
	for _, name := range names {
		if h, err := l.host(name, subnet); err == nil {
			hosts = append(hosts, h)
		}
	}
	slices.SortFunc(hosts, func(a, b host) int {
		x, _ := hostIndex(a.name)
		y, _ := hostIndex(b.name)
		return x - y
	})
	return slices.CompactFunc(hosts, func(a, b host) bool { return a.name == b.name })
}

// lock takes the lab's lock, waiting for another command to finish. The lock
// dies with its holder, and its file stays: removing it would let two holders in.
func (l *Lab) lock(ctx context.Context) (unlock func(), err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("a lab needs root: run it with sudo")
	}
	return l.flock(ctx, "."+l.cfg.Name+".lock")
}

func (l *Lab) flock(ctx context.Context, name string) (unlock func(), err error) {
	if err := os.MkdirAll(l.cfg.StateDir, 0o755); err != nil {
		return nil, fmt.Errorf("making the labs' directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(l.cfg.StateDir, name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening lab lock: %w", err)
	}
	start, told := time.Now(), false
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("locking lab %q: %w", l.cfg.Name, err)
		}
		if !told {
			l.say("", "waiting for another gear lab command", start)
			told = true
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			f.Close()
			return nil, fmt.Errorf("waiting for the lock of lab %q: %w", l.cfg.Name, err)
		}
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
