package main

import "gearmesh.dev/api"

// setMasters makes known which masters there are, as the last one said: from the host's disk when none answers.
func (d *agentDaemon) setMasters(list []api.MasterEntry) {
	var at []string
	for _, m := range list {
		at = append(at, m.Address.String())
	}
	d.master.Use(at)
}
