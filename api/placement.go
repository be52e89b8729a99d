package api

import (
	"fmt"
	"slices"
)

// placement checks what a service says of its hosts.
func (f *faults) placement(p *Placement) {
	const at = "spec.placement"
	for i, r := range p.Require {
		at := fmt.Sprintf("%s.require[%d]", at, i)
		f.add(at+".label", labelKey(r.Label))
		if len(r.In)+len(r.NotIn) == 0 {
			f.addf(at, "says nothing; give in or notIn")
		}
		for _, v := range slices.Concat(r.In, r.NotIn) {
			f.add(at, plainText(v))
		}
	}
	f.add(at+".spread", labelKey(p.Spread))
	f.within(at+".priority", p.Priority, -1000, 1000)
	f.within(at+".maxSkew", p.MaxSkew, 1, 10000)
	f.within(at+".maxPerHost", p.MaxPerHost, 1, 10000)
	f.neighbours(at+".near", p.Near)
	f.neighbours(at+".apart", p.Apart)
	for i, n := range p.Near {
		if slices.ContainsFunc(p.Apart, func(o Neighbour) bool {
			return !o.Prefer && !n.Prefer && o.Service == n.Service && o.Label() == n.Label()
		}) {
			f.addf(fmt.Sprintf("%s.near[%d]", at, i), "must be near %q and apart from it; take one away", n.Service)
		}
	}
}

// rebalance refuses to move pods that would have to end first, or that have reasons to be where they are.
func (f *faults) rebalance(s *ServiceSpec) {
	if s.Placement.Rebalance && (s.Global || s.Singleton || s.Identity != "" || s.Stateful()) {
		f.addf("spec.placement.rebalance", "is given, but pods of a service that is global or a singleton, or that has identity or volumes on its host, are not moved; take it away")
	}
}

// global refuses what says where the pods of a global service are, which is on each host.
func (f *faults) global(s *ServiceSpec) {
	p := &s.Placement
	if s.Replicas != nil {
		f.addf("spec.replicas", "is given, and spec.global too, which means one pod a host; take one away")
	}
	if p.MaxSkew != 0 || p.MaxPerHost != 0 || p.Pack || p.Spread != "" && p.Spread != HostLabel {
		f.addf("spec.placement", "has spread, maxSkew, maxPerHost or pack, but spec.global means one pod a host; take them away")
	}
}

func (f *faults) neighbours(at string, list []Neighbour) {
	f.unique(at, len(list), func(i int) (string, error) {
		n := list[i]
		key := string(n.Service) + " within " + n.Label()
		if err := n.Service.Validate(); err != nil {
			return key, in("service", err)
		}
		if err := labelKey(n.Label()); err != nil {
			return key, in("within", err)
		}
		return key, nil
	})
	if len(list) > 32 {
		f.addf(at, "has %d entries; at most 32 are allowed", len(list))
	}
}

// within refuses a number out of bounds; 0 stands for what was left out.
func (f *faults) within(at string, n, least, most int) {
	if n != 0 && (n < least || n > most) {
		f.addf(at, "is %d; %d to %d are allowed", n, least, most)
	}
}
