package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"gearmesh.dev/api"
	systemdunits "gearmesh.dev/contrib/systemd"
	"gearmesh.dev/internal/atomicfile"
	"gearmesh.dev/internal/pki"
)

// The files of a master besides its store.
const (
	SealingKeyFile = "secret.key" // 0400; opens the secrets in the store
	caCertFile     = "ca.crt"
	caKeyFile      = "ca.key"
	seatFile       = "seat.json" // of a master that is to join others; removed when it has a vote
	storeDir       = "etcd"
)

// seat is what seat.json holds.
type seat struct {
	Seat   string       `json:"seat"`
	Domain api.Hostname `json:"domain"`
}

// ReadKit gives what another master needs of a master's directory: its whole secret.
func ReadKit(dir string) (api.MasterKit, error) {
	var kit api.MasterKit
	for name, into := range map[string]*string{caCertFile: &kit.CA, caKeyFile: &kit.CAKey, SealingKeyFile: &kit.SealingKey, peopleFile: &kit.People} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return api.MasterKit{}, fmt.Errorf("reading what makes a master: %w", err)
		}
		*into = string(text)
	}
	return kit, nil
}

// WriteKit makes a directory that of a master, with the files of a kit. The CA's certificate comes last: where it
// is, all of them are.
func WriteKit(dir string, kit api.MasterKit) error {
	if err := checkKit(kit); err != nil {
		return err
	}
	if err := private(dir); err != nil {
		return err
	}
	for _, f := range []struct {
		name, text string
		perm       os.FileMode
	}{{SealingKeyFile, kit.SealingKey, 0o400}, {peopleFile, kit.People, 0o400}, {caKeyFile, kit.CAKey, 0o400}, {caCertFile, kit.CA, 0o444}} {
		if err := atomicfile.Write(filepath.Join(dir, f.name), []byte(f.text), f.perm); err != nil {
			return err
		}
	}
	return nil
}

// checkKit refuses a kit that would make no master.
func checkKit(kit api.MasterKit) error {
	cert, err := pki.ParseCert([]byte(kit.CA))
	if err != nil {
		return fmt.Errorf("what makes a master is damaged: %w", err)
	}
	key, err := pki.ParseKey([]byte(kit.CAKey))
	if err != nil {
		return fmt.Errorf("what makes a master is damaged: %w", err)
	}
	var people []Person
	if !key.PublicKey.Equal(cert.PublicKey) || kit.SealingKey == "" || api.Decode([]byte(kit.People), &people) != nil {
		return errors.New("what makes a master is damaged: its parts do not fit each other")
	}
	return nil
}

// Seat gives the seat of a master that is to join others, and the cluster's domain; "" when it is to join none.
func Seat(dir string) (string, api.Hostname, error) {
	text, err := os.ReadFile(filepath.Join(dir, seatFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	}
	if err != nil {
		return "", "", fmt.Errorf("reading the seat among the masters: %w", err)
	}
	var s seat
	if err := json.Unmarshal(text, &s); err != nil {
		return "", "", fmt.Errorf("reading the seat among the masters from %q: %w", seatFile, err)
	}
	return s.Seat, s.Domain, nil
}

// Seated forgets the seat: the master has a vote.
func Seated(dir string) error {
	err := os.Remove(filepath.Join(dir, seatFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting the seat among the masters: %w", err)
	}
	return nil
}

// MasterOptions say which masters to join.
type MasterOptions struct {
	Dir     string     // of the new master (MasterDir)
	Master  string     // host:port of one that runs
	Token   string     // from gear token create --master
	Name    api.Name   // of the new master
	Address netip.Addr // where the others reach it
}

// FetchKit makes a directory that of a further master: everything secret comes over a connection to a
// master whose CA the token pins. A directory that is a master's already is left alone.
func FetchKit(ctx context.Context, o MasterOptions) (did bool, err error) {
	token, err := pki.ParseToken(o.Token)
	if err != nil {
		return false, err
	}
	if done, err := seated(o.Dir, token.Pin); done || err != nil {
		return false, err
	}
	ca, err := pki.FetchCA(ctx, o.Master, token.Pin)
	if err != nil {
		return false, err
	}
	var kit api.MasterKit
	c := newCaller(o.Master, ca, "")
	for wait := time.Duration(0); ; wait += time.Second {
		err = c.call(ctx, "POST", "/v1/masters", api.MasterJoin{Token: o.Token, Name: o.Name, Address: o.Address}, &kit)
		var problem *api.Error
		// Masters that have just met need 5 s before another one may come.
		if !errors.As(err, &problem) || problem.Code != api.CodeUnavailable || wait > 20*time.Second || ctx.Err() != nil {
			break
		}
		time.Sleep(time.Second)
	}
	if err != nil {
		return false, err
	}
	return true, o.take(kit)
}

// take writes what a master has given, and puts a store aside that is left of an earlier master.
func (o MasterOptions) take(kit api.MasterKit) error {
	if err := WriteKit(o.Dir, kit); err != nil {
		return err
	}
	old := filepath.Join(o.Dir, storeDir)
	if err := os.Rename(old, fmt.Sprintf("%s.left-%d", old, time.Now().Unix())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("putting the old store aside: %w", err)
	}
	if err := os.Remove(filepath.Join(o.Dir, removedFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting that this master was removed: %w", err)
	}
	return atomicfile.WriteJSON(filepath.Join(o.Dir, seatFile), seat{kit.Seat, kit.Domain}, 0o400)
}

// seated tells whether a directory is that of a master of this cluster whose store is in use or about to be. One
// whose master was removed from the cluster is not: gear master remove says so by its end, which leaves a mark.
func seated(dir, pin string) (bool, error) {
	text, err := os.ReadFile(filepath.Join(dir, caCertFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking whether this host is a master: %w", err)
	}
	cert, err := pki.ParseCert(text)
	if err != nil {
		return false, fmt.Errorf("looking whether this host is a master: %w", err)
	}
	if pki.Pin(cert) != pin {
		return false, fmt.Errorf("this host is a master of another cluster; move %q away to leave it", dir)
	}
	if _, err := os.Stat(filepath.Join(dir, removedFile)); err == nil {
		return false, nil
	}
	return true, nil
}

// removedFile marks a master that was removed from its cluster.
const removedFile = "removed"

// MarkRemoved notes that this master was removed from its cluster: its store is of no use any more.
func MarkRemoved(dir string) error {
	return atomicfile.Write(filepath.Join(dir, removedFile), nil, 0o400)
}

// IsRemoved tells whether this master was removed from its cluster.
func IsRemoved(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, removedFile))
	return err == nil
}

// furtherMaster makes this host another master of the cluster.
func (i *installer) furtherMaster(ctx context.Context, master, token string) (string, error) {
	dir := i.path(MasterDir)
	did, err := FetchKit(ctx, MasterOptions{Dir: dir, Master: master, Token: token, Name: i.Name, Address: i.Address})
	if err != nil {
		return "", err
	}
	id, err := LoadIdentity(i.path(AgentDir))
	if err != nil {
		return "", err
	}
	changed, err := i.settings("master.env", masterSettings("gear join", i.Name, i.Address, id.Domain))
	if err != nil {
		return "", err
	}
	started, err := i.start(ctx, systemdunits.Master)
	if err != nil {
		return "", err
	}
	if started == "" && (changed || did) {
		if err := i.systemctl(ctx, "restart", systemdunits.Master); err != nil {
			return "", err
		}
		started = "restarted the master"
	}
	own := netip.AddrPortFrom(i.Address, i.MasterPort).String()
	c := newCaller(own, id.CA, "")
	err = i.await(ctx, "this master to have a vote", "journalctl -u gear-master -n 30", func(ctx context.Context) error {
		return c.call(ctx, "GET", "/readyz", nil, nil)
	})
	if err != nil || started == "" && !did {
		return "", err
	}
	return fmt.Sprintf("this host is master %q; it serves https://%s", i.Name, own), nil
}

// masterSettings is the environment file of a master.
func masterSettings(by string, name api.Name, address netip.Addr, domain api.Hostname) string {
	return fmt.Sprintf("# written by %s\nGEAR_MASTER_FLAGS=--name=%s --address=%s --domain=%s\n", by, name, address, domain)
}
