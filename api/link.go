package api

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Link makes another service appear on the pod's localhost.
type Link struct {
	Service   Name     `json:"service" doc:"The service linked to" example:"db"`
	Project   Name     `json:"project,omitempty" doc:"The service's project, when it is another one; the service must offer itself to this project"`
	Name      Name     `json:"name,omitempty" doc:"What the pod calls it, as host name and in variables; the service's name when left out. With the same name a link can lead to another service without a restart" example:"db"`
	Port      Name     `json:"port,omitempty" doc:"Name of the service's port; its first when left out"`
	LocalPort uint16   `json:"localPort,omitempty" doc:"Port on localhost; needed, since links are laid before the target exists" minimum:"1" maximum:"65535" example:"5432"`
	Protocol  Protocol `json:"protocol,omitempty" enum:"tcp,udp" doc:"tcp when left out"`
	Retarget  Retarget `json:"retarget,omitempty" enum:"drain,cut" doc:"What open connections do when backends change; drain when left out"`
	MaxDrain  Duration `json:"maxDrain,omitempty" doc:"With drain, how long open connections to a backend that is gone may stay; without end when left out"`
	Balance   Balance  `json:"balance,omitempty" enum:"random,weighted,sticky" doc:"How a connection finds its backend; random when left out"`
	Nearest   bool     `json:"nearest,omitempty" doc:"Backends on the pod's own host only, while there is one; else those in its host's zone, while there is one"`
	Mode      LinkMode `json:"mode,omitempty" enum:"direct,balanced" doc:"direct when left out: the kernel alone; balanced: through a proxy of the host that counts connections"`
	WaitFor   LinkWait `json:"waitFor,omitempty" enum:"ready,always" doc:"ready: the containers start when the link has a backend; always: and the pod counts as ready only while it has one"`
}

// Retarget says what becomes of open connections when a link's backends change.
type Retarget string

// The retarget policies.
const (
	Drain Retarget = "drain" // open connections stay with the old backend
	Cut   Retarget = "cut"   // open connections are reset, so that clients reconnect at once
)

// Balance says which of several backends a new connection gets.
type Balance string

// The ways of balancing.
const (
	BalanceRandom   Balance = "random"   // each backend as often as the others
	BalanceWeighted Balance = "weighted" // by the pods' weight
	BalanceSticky   Balance = "sticky"   // a pod stays with one backend as long as that is ready
)

// LinkMode says what carries a link.
type LinkMode string

// The link modes.
const (
	LinkDirect   LinkMode = "direct"   // the kernel: no process is in the path
	LinkBalanced LinkMode = "balanced" // a HAProxy of the host: each connection goes to the backend with the fewest
)

// LinkWait says what of a pod depends on a link. It stops nothing that runs.
type LinkWait string

// What a pod may need of a link.
const (
	WaitReady  LinkWait = "ready"  // its containers start when there is a backend
	WaitAlways LinkWait = "always" // it also counts as ready only while there is one
)

// In gives the project of the service that a pod of the project links to.
func (l Link) In(project Name) Name {
	if l.Project != "" {
		return l.Project
	}
	return project
}

// Called gives the name that the pod has for the link.
func (l Link) Called() Name { return cmp.Or(l.Name, l.Service) }

// Egress is what pods may connect to that is no link.
type Egress struct {
	Default EgressDefault `json:"default,omitempty" enum:"allow,deny" doc:"What becomes of everything that allow does not name; deny when left out"`
	Allow   []EgressRule  `json:"allow,omitempty" doc:"With deny, what is allowed all the same" maxItems:"128"`
}

// EgressDefault is what becomes of what no rule names.
type EgressDefault string

// The defaults of Egress.
const (
	EgressAllow EgressDefault = "allow"
	EgressDeny  EgressDefault = "deny"
)

// EgressRule allows connections: to a network or to a name, exactly one of them.
type EgressRule struct {
	CIDR     string   `json:"cidr,omitempty" doc:"IPv4 or IPv6 network" example:"198.51.100.0/24"`
	Name     string   `json:"name,omitempty" doc:"DNS name, or *. and a domain for all names under it; allowed are the addresses that the host's DNS server has told the pod" example:"*.example.com" maxLength:"255"`
	Ports    []uint16 `json:"ports,omitempty" doc:"All when left out" maxItems:"15"`
	Protocol Protocol `json:"protocol,omitempty" enum:"tcp,udp" doc:"tcp when left out"`
}

// Network gives the rule's network, masked; false for a rule with a name.
func (r EgressRule) Network() (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(r.CIDR)
	return p.Masked(), err == nil && !p.Addr().Is4In6()
}

// String gives the rule for people, such as "*.example.com tcp 80,443".
func (r EgressRule) String() string {
	words := []string{cmp.Or(r.CIDR, r.Name), string(r.Protocol.orTCP())}
	if len(r.Ports) > 0 {
		words = append(words, strings.Trim(strings.ReplaceAll(fmt.Sprint(r.Ports), " ", ","), "[]"))
	}
	return strings.Join(words, " ")
}

// Matches tells whether the rule is about a DNS name, given without the final dot.
func (r EgressRule) Matches(name string) bool {
	name = strings.ToLower(name)
	if domain, ok := strings.CutPrefix(r.Name, "*."); ok {
		return strings.HasSuffix(name, "."+domain)
	}
	return r.Name != "" && r.Name == name
}

// EgressOf gives what a pod may connect to: what its template says, else what its project says; nil for everything.
func EgressOf(project *Egress, t PodTemplate) *Egress {
	e := project
	if t.Egress != nil {
		e = t.Egress
	}
	if e == nil || e.Default == EgressAllow {
		return nil
	}
	return e
}

func (e *Egress) defaults() {
	if e == nil {
		return
	}
	if e.Default == "" {
		e.Default = EgressDeny
	}
	for i := range e.Allow {
		e.Allow[i].Protocol = e.Allow[i].Protocol.orTCP()
		e.Allow[i].Name = strings.ToLower(strings.TrimSuffix(e.Allow[i].Name, "."))
	}
}

func (l *Link) defaults() {
	l.Protocol = l.Protocol.orTCP()
	if l.Retarget == "" {
		l.Retarget = Drain
	}
}

// links checks a pod's links. Two may not have one place, nor one name.
func (f *faults) links(at string, links []Link) {
	for i, l := range links {
		f.link(fmt.Sprintf("%s[%d]", at, i), l)
	}
	f.unique(at, len(links), func(i int) (string, error) {
		l := links[i]
		return fmt.Sprintf("service %s, port %d/%s", strings.TrimPrefix(string(l.Project)+"/"+string(l.Service), "/"), l.LocalPort, l.Protocol), socket("localPort", l.LocalPort, l.Protocol)
	})
}

func (f *faults) link(at string, l Link) {
	f.add(at+".service", l.Service.Validate())
	if l.Project != "" {
		f.add(at+".project", l.Project.Validate())
	}
	if l.Name != "" {
		f.add(at+".name", l.Name.Validate())
	}
	if l.Port != "" {
		f.add(at+".port", l.Port.Validate())
	}
	f.word(at+".retarget", string(l.Retarget), "drain", "cut")
	f.word(at+".balance", string(l.Balance), "random", "weighted", "sticky")
	f.word(at+".mode", string(l.Mode), "direct", "balanced")
	f.word(at+".waitFor", string(l.WaitFor), "ready", "always")
	if l.MaxDrain < 0 || l.MaxDrain > 0 && l.Retarget == Cut {
		f.addf(at+".maxDrain", "is %s with retarget %q; it bounds drain and cannot be negative", l.MaxDrain, l.Retarget)
	}
	if l.Mode == LinkBalanced && (l.Protocol == UDP || l.Balance != "") {
		f.addf(at+".mode", "balanced is for tcp and chooses backends itself; leave protocol and balance out, or take direct")
	}
}

// word checks a field that takes one of some words, or none.
func (f *faults) word(at, got string, known ...string) {
	if got != "" && !slices.Contains(known, got) {
		f.addf(at, "%q is not known; write %s", got, strings.Join(known, " or "))
	}
}

func (f *faults) egress(at string, e *Egress) {
	if e == nil {
		return
	}
	f.word(at+".default", string(e.Default), "allow", "deny")
	if e.Default == EgressAllow && len(e.Allow) > 0 {
		f.addf(at+".allow", "everything is allowed by default; leave one of them out")
	}
	for i, r := range e.Allow {
		f.egressRule(fmt.Sprintf("%s.allow[%d]", at, i), r)
	}
}

func (f *faults) egressRule(at string, r EgressRule) {
	switch _, isNet := r.Network(); {
	case (r.CIDR == "") == (r.Name == ""):
		f.addf(at, "give either cidr or name")
	case r.CIDR != "" && !isNet:
		f.addf(at+".cidr", "%q is no network; write one such as 198.51.100.0/24 or 2001:db8::/32", r.CIDR)
	case r.Name != "":
		f.add(at+".name", Hostname(strings.TrimPrefix(r.Name, "*.")).Validate())
	}
	f.word(at+".protocol", string(r.Protocol), "tcp", "udp")
	for i, p := range r.Ports {
		f.add(fmt.Sprintf("%s.ports[%d]", at, i), portNumber(p))
	}
}
