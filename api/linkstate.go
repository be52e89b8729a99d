package api

import (
	"net/netip"
	"time"
)

// LinkState is what of a link stands in its pod's namespace, as it was found there.
type LinkState struct {
	Applied   bool          `json:"applied" doc:"The rules are those that the link's target asks for"`
	Backends  []LinkBackend `json:"backends,omitempty" doc:"That the rules lead to, and those that are gone and still have open connections"`
	Refused   int64         `json:"refused,omitempty" doc:"Packets that were refused since the rules were written, for want of a backend"`
	Listening bool          `json:"listening,omitempty" doc:"A program in the pod listens at the link's own address and port; connections go to the link all the same"`
}

// LinkBackend is a backend of a link, as its pod uses it.
type LinkBackend struct {
	Address     netip.AddrPort `json:"address"`
	Connections int64          `json:"connections" doc:"Started since the rules were last written"`
	Open        int            `json:"open" doc:"Open at present; of udp, what the kernel still knows"`
	Gone        bool           `json:"gone,omitempty" doc:"The rules do not lead to it any more"`
	Until       *time.Time     `json:"until,omitempty" doc:"When open connections to it are ended"`
}
