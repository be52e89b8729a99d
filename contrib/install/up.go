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
	"reflect"
	"time"

	"gearmesh.dev/api"
	systemdunits "gearmesh.dev/contrib/systemd"
	"gearmesh.dev/internal/clientconfig"
	"gearmesh.dev/internal/pki"
)

// MasterDir is where a master keeps its CA, its people and its store.
const MasterDir = "/var/lib/gear/master"

// peopleFile says who may use the API.
const peopleFile = "people.json"

// Person is someone who may use the API, as people.json lists them.
type Person struct {
	Name      api.Name `json:"name"`
	TokenHash string   `json:"tokenHash"` // pki.HashSecret of the bearer token
}

// LoadPeople reads people.json of a master's directory (MasterDir).
func LoadPeople(dir string) ([]Person, error) {
	data, err := os.ReadFile(filepath.Join(dir, peopleFile))
	if err != nil {
		return nil, fmt.Errorf("reading who may use the API: %w", err)
	}
	var people []Person
	if err := api.Decode(data, &people); err != nil {
		return nil, fmt.Errorf("reading who may use the API from %q: %w", peopleFile, err)
	}
	return people, nil
}

// Up makes this host the first of a cluster: its master, and a host that runs pods.
func Up(ctx context.Context, o Options) (Report, error) {
	i, err := o.complete()
	if err != nil {
		return Report{}, err
	}
	u := &upper{installer: i}
	steps := append(i.hostSteps(true, append(systemdunits.Host(), systemdunits.Master)...),
		step{name: "certificate authority", do: u.authority},
		step{name: "administrator", do: u.administrator},
		step{name: "master", do: u.master},
		step{name: "identity", do: u.identity},
		step{name: "agent", do: i.agent},
		step{name: "host", do: u.ready},
	)
	return runSteps(ctx, i.Progress, steps)
}

// upper carries what one step of Up finds for the next ones.
type upper struct {
	*installer
	ca       *pki.CA
	token    string // of the administrator
	reread   bool   // the master has to read its files again
	hostName api.Name
}

func (u *upper) dir() string { return u.path(MasterDir) }

func (u *upper) server() string {
	return netip.AddrPortFrom(u.Address, u.MasterPort).String()
}

// authority makes the cluster's CA, once.
func (u *upper) authority(context.Context) (string, error) {
	ca, err := pki.LoadCA(u.dir())
	if err == nil {
		u.ca = ca
		return "", nil
	}
	if u.exists(filepath.Join(MasterDir, "ca.crt")) || !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w; bring it back from a backup: hosts trust no other", err)
	}
	if u.ca, err = pki.NewCA(time.Now()); err != nil {
		return "", err
	}
	if err := private(u.dir()); err != nil {
		return "", err
	}
	u.reread = true
	return "made the cluster's CA in " + MasterDir, u.ca.Save(u.dir())
}

// administrator makes a token for root on this host, unless root has one that the master knows.
func (u *upper) administrator(context.Context) (string, error) {
	path := u.path("/root/.config/gear/config.json")
	config, err := clientconfig.Load(path)
	if err != nil {
		return "", err
	}
	people, err := LoadPeople(u.dir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	want := clientconfig.Context{Name: u.Context, Server: "https://" + u.server(), CA: string(u.ca.PEM())}
	if c, err := config.Context(u.Context); err == nil && known(people, c.Token) {
		u.token, want.Token, want.Servers = c.Token, c.Token, c.Servers
		if reflect.DeepEqual(c, want) {
			return "", nil
		}
		return "wrote the server's address to " + path, config.Set(want).Save(path)
	}
	u.token = pki.NewSecret()
	want.Token = u.token
	if err := u.savePeople(people); err != nil {
		return "", err
	}
	return "made an administrator's token, in /root/.config/gear/config.json", config.Set(want).Save(path)
}

// admin is the name under which root on the first host uses the API.
const admin = "admin"

func known(people []Person, token string) bool {
	for _, p := range people {
		if pki.SecretMatches(token, p.TokenHash) {
			return true
		}
	}
	return false
}

// savePeople gives the administrator the new token in place of an old one.
func (u *upper) savePeople(people []Person) error {
	out := []Person{{Name: admin, TokenHash: pki.HashSecret(u.token)}}
	for _, p := range people {
		if p.Name != admin {
			out = append(out, p)
		}
	}
	text, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return fmt.Errorf("writing who may use the API: %w", err)
	}
	u.reread = true
	_, err = write(filepath.Join(u.dir(), peopleFile), append(text, '\n'), 0o400)
	return err
}

// master starts the master and waits until it serves.
func (u *upper) master(ctx context.Context) (string, error) {
	changed, err := u.settings("master.env", masterSettings("gear up", u.Name, u.Address, u.Domain))
	if err != nil {
		return "", err
	}
	did, err := u.start(ctx, systemdunits.Master)
	if err != nil {
		return "", err
	}
	if did == "" && (changed || u.reread) {
		if err := u.systemctl(ctx, "restart", systemdunits.Master); err != nil {
			return "", err
		}
		did = "restarted the master for its new settings"
	}
	c := newCaller(u.server(), u.ca.Cert, "")
	err = u.await(ctx, "the master", "journalctl -u gear-master -n 30", func(ctx context.Context) error {
		return c.call(ctx, "GET", "/readyz", nil, nil)
	})
	if err != nil || did == "" {
		return "", err
	}
	return did + "; it serves https://" + u.server(), nil
}

// settings writes a daemon's environment file.
func (i *installer) settings(name, text string) (changed bool, err error) {
	if err := os.MkdirAll(i.path("/etc/gear"), 0o755); err != nil {
		return false, fmt.Errorf("writing settings: %w", err)
	}
	return write(i.path(filepath.Join("/etc/gear", name)), []byte(text), 0o644)
}

// identity lets this host join its own master, as any other would.
func (u *upper) identity(ctx context.Context) (string, error) {
	c := newCaller(u.server(), u.ca.Cert, u.token)
	did, err := u.installer.identity(ctx, u.server(), u.ca.Pin(), func(ctx context.Context) (string, error) {
		var t api.JoinToken
		err := c.call(ctx, "POST", "/v1/tokens", nil, &t)
		return t.Token, err
	})
	if err != nil {
		return "", err
	}
	id, err := LoadIdentity(u.path(AgentDir))
	u.hostName = id.Name
	return did, err
}

// ready waits until the master calls this host ready.
func (u *upper) ready(ctx context.Context) (string, error) {
	c := newCaller(u.server(), u.ca.Cert, u.token)
	return "", u.await(ctx, "the host to be ready", "gear get host "+string(u.hostName), func(ctx context.Context) error {
		var h api.Host
		if err := c.call(ctx, "GET", "/v1/hosts/"+string(u.hostName), nil, &h); err != nil {
			return err
		}
		if h.Status.State != api.HostReady {
			return fmt.Errorf("host %q is %s: %s", u.hostName, h.Status.State, h.Status.Message)
		}
		return nil
	})
}
