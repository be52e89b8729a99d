package api

import (
	"net/netip"
	"time"
)

// LogLine is one line that a container wrote, or that systemd or the kernel wrote of it.
type LogLine struct {
	Time      time.Time `json:"time"`
	Host      Name      `json:"host"`
	Project   Name      `json:"project,omitempty"`
	Service   Name      `json:"service,omitempty"`
	Pod       Name      `json:"pod,omitempty"`
	Container Name      `json:"container,omitempty"`
	Source    string    `json:"source,omitempty" doc:"Who wrote it, when it was not a container: systemd, kernel, or a program of the host"`
	Text      string    `json:"text" doc:"Without the newline; control characters are escaped"`
}

// Why explains a pod: everything of it that stands on its host, and how it came there.
type Why struct {
	Pod     Pod          `json:"pod"`
	Dropped bool         `json:"dropped,omitempty" doc:"The host could not be asked; what follows is what the master knows"`
	Units   []TextFile   `json:"units,omitempty" doc:"Unit files and drop-ins, as they are on the host"`
	Rules   []TextFile   `json:"rules,omitempty" doc:"The netfilter rules of its namespace and its host ports"`
	Links   []LinkTarget `json:"links,omitempty" doc:"As they should be"`

	LinkStates []LinkState `json:"linkStates,omitempty" doc:"What of each of links stands in the pod's namespace, in the same order"`

	Egress *EgressState `json:"egress,omitempty" doc:"What it is held to; nothing when it may connect to everything"`
}

// EgressState is what a pod may connect to, and what came of it.
type EgressState struct {
	Egress
	Told    []ToldName `json:"told,omitempty" doc:"Addresses that the pod may connect to because its host's DNS server has told it of them"`
	Refused uint64     `json:"refused" doc:"Packets that were refused, one for each try of TCP, since the rules were laid"`
}

// ToldName is an address that a pod was told of.
type ToldName struct {
	Name    string     `json:"name" doc:"What it asked for"`
	Address netip.Addr `json:"address"`
	Until   time.Time  `json:"until" doc:"Until when it may connect to there; longer while it has a connection"`
}

// TextFile is a text with the name people know it by.
type TextFile struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// List is the answer to a list: the items, and the revision to watch from.
type List[T any] struct {
	Revision int64 `json:"revision"`
	Items    []T   `json:"items"`

	Continue  string `json:"continue,omitempty" doc:"Asks for the next page of the same list, as of the same revision; not there on the last page"`
	Remaining int    `json:"remaining,omitempty" doc:"Items on the pages that follow"`
}

// EventType says what a watch event means.
type EventType string

// The types of watch events.
const (
	EventPut    EventType = "put"
	EventDelete EventType = "delete"
	EventSync   EventType = "sync" // what was there has been sent; changes follow
)
