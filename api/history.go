package api

import "time"

// ServiceHistory is the specs that a service has had.
type ServiceHistory struct {
	Items []ServiceRevision `json:"items" doc:"The newest first: that is wanted now. Then at most 10 before it"`
}

// ServiceRevision is what a service was for a time.
type ServiceRevision struct {
	Generation int64       `json:"generation" doc:"Counts the changes of the service's spec, from 1"`
	Until      time.Time   `json:"until,omitzero" doc:"When another took its place; not of the one that is wanted now"`
	By         string      `json:"by,omitempty" doc:"Who did that" example:"person:ann"`
	Spec       ServiceSpec `json:"spec" doc:"Without spec.restarted"`
}
