package api

import (
	"math/rand/v2"
	"time"
)

// How often a host reports, and what the master answers (docs/adr/0013-heartbeats-grow-rare.md).

const (
	// ReportEvery is the longest time between two reports of a host, unless the master allows a longer one. A host that may have
	// singletons keeps to it always, since each report renews their leases, and so does one whose last report was not answered.
	ReportEvery = 2 * time.Second
	// ReportEveryMost is the longest time that a host lets itself be told.
	ReportEveryMost = 30 * time.Second
)

// ReportWait gives how long a host waits before its next report when it was told that it may wait for so long: a little less,
// so that hosts that were told at one time do not go on together.
func ReportWait(told time.Duration, leased bool) time.Duration {
	every := min(max(told, ReportEvery), ReportEveryMost)
	if leased {
		every = ReportEvery
	}
	return every - rand.N(min(every/8, every-ReportEvery)+1)
}

// ReportAnswer is what the master answers to a host's report, or to the heartbeat that stands for it. No answer means that there are no
// leases, and that the host may wait for as long as the last one said.
type ReportAnswer struct {
	Leases []UID    `json:"leases,omitempty" doc:"Singletons of the host that may run until their lease is over"`
	Every  Duration `json:"every,omitempty" doc:"The host may wait this long before its next report when nothing changes; 2 s when it is not said"`
	Mark   Name     `json:"mark,omitempty" doc:"Stands for the report in heartbeats, as long as it says the same"`
}

// PacedHeader is set in a host's request for its desired state when it can be told how rarely the master speaks (Patch.Every).
const PacedHeader = "Gear-Paced"
