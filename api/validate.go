package api

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// The defaults of what manifests leave out.
const (
	DefaultPort        = Name("main")
	DefaultContainer   = Name("main")
	DefaultStopGrace   = Duration(10e9)
	DefaultCheckPeriod = Duration(2e9)
)

// defaultVersion fills in the version; a wrong one stays, for Validate to find.
func (h *Header) defaultVersion() {
	if h.Version == "" {
		h.Version = Version
	}
}

// Default implements Resource.
func (p *Project) Default() { p.defaultVersion(); p.Spec.Egress.defaults() }

// Validate implements Resource.
func (p *Project) Validate() []Fault {
	var f faults
	f.head(&p.Header)
	if p.Metadata.Name == "host" {
		f.addf("metadata.name", "the name %q is taken: HOST.host.DOMAIN are the names of hosts; choose another", p.Metadata.Name)
	}
	f.add("spec.description", plainText(p.Spec.Description))
	f.add("spec.policy", p.Spec.Policy.Validate())
	f.within("spec.maxPriority", p.Spec.MaxPriority, -1000, 1000)
	f.egress("spec.egress", p.Spec.Egress)
	f.registries("spec.registries", p.Spec.Registries)
	return f
}

// Default implements Resource.
func (h *Host) Default() { h.defaultVersion() }

// Validate implements Resource.
func (h *Host) Validate() []Fault {
	var f faults
	f.head(&h.Header)
	if _, ok := h.Metadata.Labels[HostLabel]; ok {
		f.addf("metadata.labels.host", "is always the host's name and cannot be set")
	}
	return f
}

// Default implements Resource.
func (a *Alias) Default() { a.defaultVersion() }

// Validate implements Resource.
func (a *Alias) Validate() []Fault {
	var f faults
	f.head(&a.Header)
	f.add("spec.host", a.Spec.Host.Validate())
	f.add("spec.service", a.Spec.Service.Validate())
	if a.Spec.Port != "" {
		f.add("spec.port", a.Spec.Port.Validate())
	}
	return f
}

// Default implements Resource.
func (p *Pod) Default() { p.defaultVersion(); p.Spec.Template.Default() }

// Validate implements Resource.
func (p *Pod) Validate() []Fault {
	var f faults
	f.head(&p.Header)
	f.add("spec.service", p.Spec.Service.Validate())
	f.template("spec.template", &p.Spec.Template)
	f.add("spec.ordinal", ordinal(p.Spec.Ordinal))
	if p.Spec.Host != "" {
		f.add("spec.host", p.Spec.Host.Validate())
	}
	return f
}

// Default implements Resource.
func (s *Service) Default() {
	s.defaultVersion()
	if s.Spec.Replicas == nil && !s.Spec.Global {
		s.Spec.Replicas = new(int)
		*s.Spec.Replicas = 1
	}
	if s.Spec.Placement.Spread == "" {
		s.Spec.Placement.Spread = HostLabel
	}
	if s.Spec.Leased() {
		s.Spec.singletonDefaults()
	}
	s.Spec.Default()
}

// Default fills in what a template leaves out.
func (t *PodTemplate) Default() {
	t.Egress.defaults()
	for i := range t.InitContainers {
		t.InitContainers[i].defaults(false)
	}
	for i := range t.Containers {
		t.Containers[i].defaults(len(t.Containers) == 1)
	}
	for i := range t.Ports {
		p := &t.Ports[i]
		if p.Name == "" && len(t.Ports) == 1 {
			p.Name = DefaultPort
		}
		p.Protocol = p.Protocol.orTCP()
	}
	for i := range t.Links {
		t.Links[i].defaults()
	}
}

func (c *Container) defaults(only bool) {
	if c.Name == "" && only {
		c.Name = DefaultContainer
	}
	if c.StopGrace == 0 {
		c.StopGrace = DefaultStopGrace
	}
	for _, k := range []*Check{c.Startup, c.Ready, c.Live} {
		k.defaults()
	}
}

func (p Protocol) orTCP() Protocol {
	if p == "" {
		return TCP
	}
	return p
}

// Validate implements Resource.
func (s *Service) Validate() []Fault {
	var f faults
	f.head(&s.Header)
	if r := s.Spec.Replicas; r != nil && (*r < 0 || *r > 10000) {
		f.addf("spec.replicas", "is %d; 0 to 10000 are allowed", *r)
	}
	f.within("spec.minReady", s.Spec.MinReady, 1, 10000)
	f.placement(&s.Spec.Placement)
	f.rebalance(&s.Spec)
	f.copies(s)
	f.unique("spec.aliases", len(s.Spec.Aliases), func(i int) (string, error) {
		return string(s.Spec.Aliases[i]), s.Spec.Aliases[i].Validate()
	})
	if len(s.Spec.Aliases) > 0 && len(s.Spec.Ports) == 0 {
		f.addf("spec.aliases", "the service has no port that an alias could lead to; add one under spec.ports")
	}
	f.unique("spec.offers", len(s.Spec.Offers), func(i int) (string, error) {
		return string(s.Spec.Offers[i]), s.Spec.Offers[i].Validate()
	})
	f.template("spec", &s.Spec.PodTemplate)
	return f
}

func (f *faults) head(h *Header) {
	f.add("metadata.name", h.Metadata.Name.Validate())
	switch {
	case h.Kind.InProject():
		f.add("metadata.project", h.Metadata.Project.Validate())
	case h.Metadata.Project != "":
		f.addf("metadata.project", "a %s belongs to no project; leave this out", lowerKind(h.Kind))
	}
	if h.Version != "" && h.Version != Version {
		f.addf("version", "%q is not known; write %q or leave it out", h.Version, Version)
	}
	for k, v := range h.Metadata.Labels {
		f.add("metadata.labels", labelKey(k))
		f.add("metadata.labels."+k, labelValue(v))
	}
}

func (f *faults) template(at string, t *PodTemplate) {
	if len(t.Containers) == 0 {
		f.addf(at+".containers", "a pod needs at least one container")
	}
	f.order(at, t)
	for i := range t.InitContainers {
		f.container(fmt.Sprintf("%s.initContainers[%d]", at, i), &t.InitContainers[i], t)
	}
	for i := range t.Containers {
		f.container(fmt.Sprintf("%s.containers[%d]", at, i), &t.Containers[i], t)
	}
	f.unique(at+".volumes", len(t.Volumes), func(i int) (string, error) {
		return string(t.Volumes[i].Name), t.Volumes[i].validate()
	})
	f.environment(at+".env", t.Env)
	f.unique(at+".ports", len(t.Ports), func(i int) (string, error) {
		return string(t.Ports[i].Name), in("name", t.Ports[i].Name.Validate())
	})
	f.unique(at+".ports", len(t.Ports), func(i int) (string, error) {
		p := t.Ports[i]
		return fmt.Sprintf("%d/%s", p.Port, p.Protocol), socket("port", p.Port, p.Protocol)
	})
	f.links(at+".links", t.Links)
	f.egress(at+".egress", t.Egress)
	if t.Weight < 0 || t.Weight > MaxWeight {
		f.addf(at+".weight", "is %d; 1 to %d are allowed", t.Weight, MaxWeight)
	}
	f.weight(at+".cpuWeight", t.CPUWeight)
	f.weight(at+".ioWeight", t.IOWeight)
}

func (f *faults) container(at string, c *Container, t *PodTemplate) {
	if c.Native != nil {
		f.native(at, c)
	} else {
		f.add(at+".image", imageRef(c.Image))
	}
	f.environment(at+".env", c.Env)
	f.arguments(at+".command", c.Command)
	f.arguments(at+".args", c.Args)
	f.add(at+".user", plainText(c.User))
	if c.WorkDir != "" {
		f.add(at+".workDir", absolutePath(c.WorkDir))
	}
	if c.StopSignal != "" && !signalName.MatchString(c.StopSignal) {
		f.addf(at+".stopSignal", "%q is no signal; write one such as SIGTERM", c.StopSignal)
	}
	f.unique(at+".mounts", len(c.Mounts), func(i int) (string, error) {
		m := c.Mounts[i]
		if !slices.ContainsFunc(t.Volumes, func(v Volume) bool { return v.Name == m.Volume }) {
			return m.Path, in("volume", fmt.Errorf("there is no volume %q; add it under volumes", m.Volume))
		}
		return m.Path, in("path", absolutePath(m.Path))
	})
	f.check(at+".startup", c.Startup)
	f.check(at+".ready", c.Ready)
	f.check(at+".live", c.Live)
	f.options(at, &c.ContainerOptions)
	f.secrets(at, c)
}

func (f *faults) check(at string, c *Check) {
	if c == nil {
		return
	}
	given := 0
	if c.TCP != nil {
		given++
		f.add(at+".tcp", socket("port", c.TCP.Port, TCP))
	}
	if c.HTTP != nil {
		given++
		f.add(at+".http", socket("port", c.HTTP.Port, TCP))
		if c.HTTP.Path != "" {
			f.add(at+".http.path", urlPath(c.HTTP.Path))
		}
	}
	if c.GRPC != nil {
		given++
		f.add(at+".grpc", socket("port", c.GRPC.Port, TCP))
		f.add(at+".grpc.service", plainText(c.GRPC.Service))
	}
	if len(c.Command) > 0 {
		given++
		f.arguments(at+".command", c.Command)
	}
	if given != 1 {
		f.addf(at, "has %d kinds of check; give exactly one of tcp, http, grpc and command", given)
	}
	if c.Failures < 0 || c.Failures > 1000 {
		f.addf(at+".failures", "is %d; 1 to 1000 are allowed", c.Failures)
	}
}

func (f *faults) environment(at string, env map[string]string) {
	for k, v := range env {
		if !envName.MatchString(k) {
			f.addf(at, "%q is no variable name; write letters, digits and _, not starting with a digit", k)
		}
		f.add(at+"."+k, envValue(v))
	}
}

// unique checks each of n list entries and that no two have one key.
func (f *faults) unique(at string, n int, entry func(i int) (key string, err error)) {
	seen := map[string]int{}
	for i := range n {
		key, err := entry(i)
		here := fmt.Sprintf("%s[%d]", at, i)
		f.add(here, err)
		if first, again := seen[key]; again && err == nil {
			f.addf(here, "%q stands in entry %d already", key, first)
		} else {
			seen[key] = i
		}
	}
}

var (
	envName    = newPattern(`^[A-Za-z_][A-Za-z0-9_]*$`)
	signalName = newPattern(`^SIG[A-Z0-9+-]{2,12}$`)
	labelName  = newPattern(`^[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?$`)
	// imageName follows the grammar of the distribution project's reference package: an optional
	// registry, lower-case path parts, and a tag or digest.
	imageName = newPattern(`^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*(:[0-9]{1,5})?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?$`)
)

// socket checks a port, which stands in a field of the name given, with its protocol beside it.
func socket(field string, port uint16, p Protocol) error {
	if p != TCP && p != UDP {
		return in("protocol", fmt.Errorf("%q is not known; write tcp or udp", p))
	}
	return in(field, portNumber(port))
}

func portNumber(p uint16) error {
	if p == 0 {
		return errors.New("a port from 1 to 65535 is needed")
	}
	return nil
}

func imageRef(s string) error {
	if len(s) > 512 || !imageName.MatchString(s) {
		return fmt.Errorf("%.80q is no image reference; write [registry/]repository[:tag], such as %q", s, "registry.example.com/shop/web:1")
	}
	return nil
}

func labelKey(s string) error {
	if !labelName.MatchString(s) {
		return fmt.Errorf("%.80q is no label; write 1 to 63 of a-z, 0-9, and inner . _ / -", s)
	}
	return nil
}

func labelValue(s string) error {
	if len(s) > 255 {
		return fmt.Errorf("is %d bytes long; at most 255 are allowed", len(s))
	}
	return plainText(s)
}

func absolutePath(p string) error {
	switch {
	case !path.IsAbs(p) || path.Clean(p) != p || p == "/":
		return fmt.Errorf("%.80q is not a clean absolute path below /; write one such as %q", p, "/var/lib/data")
	case strings.ContainsRune(p, ':'):
		return fmt.Errorf("%.80q has a colon, which the engine reads as the end of a path", p)
	case len(p) > 4096:
		return fmt.Errorf("the path is %d bytes long; at most 4096 are allowed", len(p))
	}
	return plainText(p)
}

func urlPath(p string) error {
	if !strings.HasPrefix(p, "/") || strings.ContainsAny(p, " \"<>\\^`{|}#") {
		return fmt.Errorf("%.80q is no URL path; write one such as %q", p, "/healthz")
	}
	return plainText(p)
}

// plainText refuses what could end a line, forge a field or confuse a reader of any sink.
func plainText(s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("is not valid UTF-8")
	}
	for i, r := range s {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return fmt.Errorf("has the control character %q at byte %d", r, i)
		}
	}
	return nil
}

// envValue refuses what Docker's environment cannot carry (security.md: newline, \r and NUL).
func envValue(s string) error {
	if len(s) > 128<<10 {
		return fmt.Errorf("is %d bytes long; at most %d are allowed", len(s), 128<<10)
	}
	if i := strings.IndexAny(s, "\n\r\x00"); i >= 0 {
		return fmt.Errorf("has %q at byte %d; a value is one line", s[i:i+1], i)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("is not valid UTF-8")
	}
	return nil
}

func (f *faults) arguments(at string, words []string) {
	for i, w := range words {
		f.add(fmt.Sprintf("%s[%d]", at, i), argument(w))
	}
}

// argument refuses what a process argument cannot carry.
func argument(s string) error {
	if strings.ContainsRune(s, 0) || !utf8.ValidString(s) {
		return fmt.Errorf("has a NUL byte or is not valid UTF-8")
	}
	return nil
}
