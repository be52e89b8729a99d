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

func (f *faults) neighbours(at string, list []Neighbour) {
	f.unique(at, len(list), func(i int) (string, error) {
		n := list[i]
		key := string(n.Service) + " within " + n.Label()
		if err := n.Service.Validate(); err != nil {
			return key, fmt.Errorf("service: %w", err)
		}
		if err := labelKey(n.Label()); err != nil {
			return key, fmt.Errorf("within: %w", err)
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
