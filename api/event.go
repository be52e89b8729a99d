package api

import "time"

// EventLevel tells whether an event is one to look at.
type EventLevel string

// The levels of events.
const (
	EventNormal  EventLevel = "normal"
	EventWarning EventLevel = "warning"
)

// Event is something that happened to a resource: what a controller did to it, or what its host found. What happens to one
// resource for one reason again and again is one event, which counts. Events are kept for an hour after the last time, fewer when there are very many.
type Event struct {
	Kind    Kind       `json:"kind" enum:"Project,Service,Pod,Host,Alias,Secret" doc:"What it happened to"`
	Project Name       `json:"project,omitempty" doc:"Its project"`
	Name    Name       `json:"name" doc:"Its name; it may be gone"`
	Service Name       `json:"service,omitempty" doc:"Of a pod: its service"`
	Host    Name       `json:"host,omitempty" doc:"Of a pod: its host at that time"`
	Level   EventLevel `json:"level" enum:"normal,warning" doc:"Whether to look at it"`
	Reason  Reason     `json:"reason" doc:"Why, for programs"`
	Message string     `json:"message,omitempty" doc:"The same for people; of the last time"`
	Count   int        `json:"count" doc:"How many times"`
	First   time.Time  `json:"first" doc:"The first time"`
	Last    time.Time  `json:"last" doc:"The last time"`
}

// Key names the resource that it happened to.
func (e *Event) Key() Key { return Key{Kind: e.Kind, Project: e.Project, Name: e.Name} }
