package podstate

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/atomicfile"
)

// podLimit is the most that is read of a pod's file, in bytes. What is larger is damaged: nothing that was written comes near.
const podLimit = 8 << 20

// DesiredLimit is the same of what the master said: it has the directory of the whole cluster.
const DesiredLimit = 512 << 20

// Damaged tells whether a load did not succeed because the file is not what was written. Files in RUN, which is in
// memory, are not asked.
func Damaged(err error) bool { return errors.Is(err, atomicfile.ErrDamaged) }

// damaged gives the error of a file whose text is sound but says what it cannot say.
func damaged(path, why string) error {
	return fmt.Errorf("loading pod state %q: %w: %s", path, atomicfile.ErrDamaged, why)
}

// loadSummed reads a file of a pod with its checksum.
func loadSummed[T any](path string) (T, error) {
	var v T
	if err := atomicfile.ReadSummed(path, podLimit, &v); err != nil {
		var none T
		return none, fmt.Errorf("loading pod state: %w", err)
	}
	return v, nil
}

// checkPod refuses a pod that is not the one whose directory it is in: acting on it would touch another.
func checkPod(path string, uid api.UID, p api.Pod) error {
	if p.Metadata.UID != uid {
		return damaged(path, fmt.Sprintf("it is of pod %q, in the directory of %q", p.Metadata.UID, uid))
	}
	return nil
}

// LoadVolumes reads of a pod its uid and its volumes alone. Decoding all of a pod takes a process that does it once longer than
// everything else about its file, since encoding/json looks at each type first.
func (d Dirs) LoadVolumes(uid api.UID) (api.Pod, error) {
	path := filepath.Join(d.Pod(uid), "pod.json")
	part, err := loadSummed[struct {
		Metadata struct {
			UID api.UID `json:"uid"`
		} `json:"metadata"`
		Spec struct {
			Template struct {
				Volumes []api.Volume `json:"volumes"`
			} `json:"template"`
		} `json:"spec"`
	}](path)
	var p api.Pod
	p.Metadata.UID, p.Spec.Template.Volumes = part.Metadata.UID, part.Spec.Template.Volumes
	if err == nil {
		err = checkPod(path, uid, p)
	}
	if err != nil {
		return api.Pod{}, err
	}
	return p, nil
}

func checkNet(path string, n Net) error {
	if !n.Address.Is4() {
		return damaged(path, "the pod has no address")
	}
	for _, p := range n.Ports {
		if p.Protocol != api.TCP && p.Protocol != api.UDP || p.Port == 0 || p.HostPort == 0 {
			return damaged(path, fmt.Sprintf("port %q is %d/%q on host port %d", p.Name, p.Port, p.Protocol, p.HostPort))
		}
	}
	return nil
}

// MendNet makes sure that a pod's network place is on disk twice: older versions kept it once, and either copy
// can be damaged. It says what it did, or "".
func (d Dirs) MendNet(uid api.UID) (did string, err error) {
	n, err := d.LoadNet(uid)
	if err != nil {
		return "", err
	}
	return d.KeepNet(uid, n)
}

// KeepNet writes a pod's network place where it is not what n is. It says what it did, or "".
func (d Dirs) KeepNet(uid api.UID, n Net) (did string, err error) {
	for _, path := range []string{filepath.Join(d.Pod(uid), "net.json"), filepath.Join(d.Pod(uid), netCopy)} {
		other, err := loadNet(path)
		if err == nil && other.Address == n.Address {
			continue
		}
		if err := atomicfile.WriteSummed(path, n, 0o644); err != nil {
			return "", err
		}
		did = fmt.Sprintf("%s was made anew", path)
	}
	return did, nil
}

func loadNet(path string) (Net, error) {
	n, err := loadSummed[Net](path)
	if err == nil {
		err = checkNet(path, n)
	}
	return n, err
}

// FindNet finds a pod's network place when net.json and its copy are lost: its address in the hosts file that its
// containers have, its host ports in what this host, which is called host, has announced.
func (d Dirs) FindNet(p api.Pod, host api.Name, known api.Directory) (Net, bool) {
	text, err := os.ReadFile(filepath.Join(d.Pod(p.Metadata.UID), "hosts"))
	if err != nil {
		return Net{}, false
	}
	var n Net
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 2 || f[1] != string(p.Metadata.Name) {
			continue
		}
		if a, err := netip.ParseAddr(f[0]); err == nil && Prefix().Contains(a) {
			n.Address = a
		}
	}
	if !n.Address.IsValid() {
		return Net{}, false
	}
	for _, port := range p.Spec.Template.Ports {
		e, ok := announced(p, port.Name, host, known)
		if !ok {
			return Net{}, false
		}
		n.HostAddress = e.Address.Addr()
		n.Ports = append(n.Ports, api.HostPort{Name: port.Name, Protocol: port.Protocol, Port: port.Port, HostPort: e.Address.Port(), Public: port.Public})
	}
	return n, true
}

// announced finds the endpoint of a pod's port.
func announced(p api.Pod, port, host api.Name, known api.Directory) (api.Endpoint, bool) {
	for _, h := range known.Endpoints {
		for _, e := range h.Endpoints {
			if h.Host == host && e.Project == p.Metadata.Project && e.Pod == p.Metadata.Name && e.Port == port {
				return e, true
			}
		}
	}
	return api.Endpoint{}, false
}

// Desired gives the path of what the master last said to this host (api.Desired), which its agent keeps.
func (d Dirs) Desired() string { return filepath.Join(d.State, "agent", "desired.json") }

// LoadDesired reads it. One with a pod that cannot be is damaged as a whole: what else it says is not to be believed either.
func (d Dirs) LoadDesired() (api.Desired, error) {
	var v api.Desired
	if err := atomicfile.ReadSummed(d.Desired(), DesiredLimit, &v); err != nil {
		return api.Desired{}, err
	}
	for _, p := range v.Pods {
		if err := cmp.Or(p.Metadata.UID.Validate(), p.Metadata.Project.Validate(), p.Metadata.Name.Validate()); err != nil {
			return api.Desired{}, damaged(d.Desired(), fmt.Sprintf("it has a pod that cannot be: %v", err))
		}
	}
	return v, nil
}

// FindLinks resolves a pod's links again, those that its project gives too, from what the host was last told: links.json is
// damaged, and there may be no agent. When that is lost too, the links of its template have no backends, connections to them are refused at
// once, and nobody knows of others.
func (d Dirs) FindLinks(uid api.UID) ([]api.LinkTarget, error) {
	p, err := d.LoadPod(uid)
	if err != nil {
		return nil, err
	}
	known, err := d.LoadDesired()
	if err != nil {
		err = fmt.Errorf("what the master last said cannot be read either: %w", err)
	}
	links := known.Directory.Resolver(d.hostOf(uid, known.Directory)).Targets(p.Metadata.Project, p.Metadata.Name, p.Spec.Template.Links)
	if ports, err := d.LoadLinkPorts(); err == nil { // without them a balanced link refuses, as one without backends does
		ports.Fill(p.Metadata.Project, links)
	}
	return links, err
}

// hostOf gives the name of this host, by the address that its pods are reached at; empty when it cannot be told.
func (d Dirs) hostOf(uid api.UID, known api.Directory) api.Name {
	n, err := d.LoadNet(uid)
	if err != nil {
		return ""
	}
	for _, h := range known.Hosts {
		if h.Address == n.HostAddress {
			return h.Name
		}
	}
	return ""
}
