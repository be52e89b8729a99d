package geard

import (
	"context"
	"runtime"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/loop"
)

// A start takes a turn, and more of them than these are not under way at once: the engine makes many containers no sooner
// when it is asked for all of them together, and a pod that is deleted before its turn costs nothing. What waits is
// planned anew at each pass, so that no queue has to be kept right. Starts at boot are systemd's alone and take no turn.
const (
	turnsPerCPU = 2
	minTurns    = 4
	// turnPatience is how long a start keeps its turn when its containers come to nothing.
	turnPatience = 10 * time.Second
	turnLook     = 25 * time.Millisecond
)

// turns are what starts take.
type turns chan struct{}

func newTurns() turns { return make(turns, max(minTurns, turnsPerCPU*runtime.NumCPU())) }

// take takes a turn, and tells whether there was one.
func (t turns) take() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}

// takesTurn tells whether an operation may start containers.
func takesTurn(op Op) bool { return op == OpInstall || op == OpStart }

// passTurn gives a start's turn to the next one, once the engine has made the first container of the pod, or the pod is
// to go, or nothing came of it.
func (a *Agent) passTurn(ctx context.Context, pod api.Pod, failed bool) {
	for end := time.Now().Add(turnPatience); !failed && ctx.Err() == nil && time.Now().Before(end) && !a.begun(pod); {
		loop.Sleep(ctx, turnLook)
	}
	<-a.turns
	a.reconcileKick.Wake()
}

func (a *Agent) begun(pod api.Pod) bool {
	if p, ok := a.mem.pod(pod.Metadata.UID); ok && p.Metadata.Deleting {
		return true
	}
	if _, waits := api.Waits(a.waitingLinks(pod)); waits {
		return true // others go first, perhaps the one that it waits for
	}
	for _, s := range a.runs(pod) {
		if s.State != api.RunWaiting {
			return true
		}
	}
	return false
}
