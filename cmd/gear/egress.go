package main

import (
	"fmt"
	"time"

	"gearmesh.dev/api"
)

// egress prints what a pod may connect to, and how much was refused.
func (a *app) egress(e *api.EgressState) {
	if e == nil {
		return
	}
	fmt.Fprintf(a.out, "\n%s\n", a.outPaint.bold("egress"))
	rows := [][]string{{"  links, and the host's DNS server", ""}}
	for _, r := range e.Allow {
		rows = append(rows, []string{"  " + printable(r.String()), ""})
		for _, t := range e.Told {
			if r.Matches(t.Name) {
				rows = append(rows, []string{"    " + t.Address.String(), printable(t.Name) + ", for " + ago(t.Until, time.Now())})
			}
		}
	}
	refused := fmt.Sprint(e.Refused)
	if e.Refused > 0 {
		refused = a.outPaint.yellow(refused)
	}
	writeTable(a.out, a.outPaint, nil, append(rows, []string{"  everything else is refused", "packets so far: " + refused}))
}
