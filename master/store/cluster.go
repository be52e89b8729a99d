package store

import (
	"context"
	"errors"
	"net/netip"
)

// Errors of a Cluster.
var (
	// ErrNotReady: the members cannot be changed now; time or the removal of a dead member mends it.
	ErrNotReady = errors.New("the members cannot be changed now")
	// ErrTaken: a member of that name or address runs already.
	ErrTaken = errors.New("there is such a member already")
)

// Member is one of the processes that keep an embedded store together.
type Member struct {
	Name    string // empty until it has started
	Peer    string // where the others reach it
	Learner bool   // it is catching up and has no vote yet
}

// Cluster is a store that is kept by processes such as this one, and that others can join.
type Cluster interface {
	Store
	// Members lists the members as this one knows them.
	Members(ctx context.Context) ([]Member, error)
	// Admit makes room for a new member and gives what it needs to start: the names and peer
	// addresses of all, as NAME=URL,NAME=URL. A seat that was given and never taken is given again.
	Admit(ctx context.Context, name string, address netip.Addr) (seat string, err error)
	// Remove takes a member out, dead or alive; its name, or of one that has never started its
	// address, says which. ErrNotFound when there is none.
	Remove(ctx context.Context, name string) error
	// Voter tells whether this member has a vote: whether it has caught up after it came.
	Voter() bool
}

// Problem is something wrong with a store that needs an operator.
type Problem struct {
	Reason  string // for programs: StoreFull, StoreCorrupt
	Message string // for people, with what to do
}

// Checker is a store that knows of its own problems.
type Checker interface {
	Problems(ctx context.Context) ([]Problem, error)
}
