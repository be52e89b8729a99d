// Package store says what the master needs of its store: JSON by key, written only by
// compare-and-set, with one revision for the whole store that grows by each write.
//
// store/etcd keeps it in etcd (embedded or an outside cluster) and store/memory in memory (tests,
// trials). store/storetest holds both to the same contract.
package store

import (
	"context"
	"errors"
)

// Errors of a store. Implementations wrap them with the key.
var (
	// ErrNotFound: there is no such key.
	ErrNotFound = errors.New("no such key")
	// ErrConflict: an operation's condition did not hold; nothing was written.
	ErrConflict = errors.New("changed since it was read")
	// ErrCompacted: the revision to watch from is no longer kept.
	ErrCompacted = errors.New("the revision is no longer kept")
	// ErrTooLarge: the transaction has more ops or bytes than the store takes at once; nothing was written.
	ErrTooLarge = errors.New("too much for one transaction")
	// ErrUnavailable: the store cannot do it now: no quorum, no answer, no space. A write may
	// or may not have been done.
	ErrUnavailable = errors.New("the store is not available")
	// ErrFull: the store has reached its quota and takes no more. It is an ErrUnavailable too.
	ErrFull = errors.New("the store is full")
	// ErrCorrupt: the members of the store do not hold the same. It is an ErrUnavailable too.
	ErrCorrupt = errors.New("the store is damaged")
)

// What each store takes in one transaction. An etcd cluster of the operator's own may take less: its --max-txn-ops and
// --max-request-bytes decide.
const (
	MaxOps   = 4096
	MaxBytes = 10 << 20 // of keys and values, and what etcd adds to them
)

// Conditions of an Op beside "the item's revision is N".
const (
	Any    int64 = -1 // whatever is stored, or nothing
	Absent int64 = 0  // the key must not exist
)

// Item is a stored value. Revision is the store's revision at its last change.
type Item struct {
	Key      string
	Value    []byte
	Revision int64
}

// OpKind says what an Op does.
type OpKind int

// The kinds of Op.
const (
	Put    OpKind = iota // write Value
	Delete               // remove the key; fine when it is missing and If is Any
	Check                // write nothing; only If must hold

	DeleteAll // remove all keys that begin with Key; If is Any
	CheckAll  // write nothing; of all keys that begin with Key none may have been written after the revision If
)

// Op is one step of a transaction.
type Op struct {
	Kind  OpKind
	Key   string
	Value []byte
	If    int64 // Any, Absent, or the revision the item must have
}

// Event is a change of one key. A deleted key has a nil Value; Revision is that of the change.
type Event struct {
	Item
	Deleted bool
}

// Batch is all changes of one or several revisions, complete up to Revision. A batch with Err is
// the last of its watch.
type Batch struct {
	Revision int64
	Events   []Event
	Err      error
}

// Lead is one time of leadership. Term is higher than that of every leader before. Fence is an
// Op that holds only while the leadership does: put it into a transaction and the store refuses
// the write of a leader that has been replaced without noticing.
type Lead struct {
	Term   int64
	Fence  Op
	Lost   <-chan struct{} // closed when the leadership has ended or may have
	Resign func()          // gives it up; safe to call twice
}

// Store is the contract. Keys are paths such as "service/shop/web"; a prefix is any leading part.
type Store interface {
	// Get reads one key as of now, or ErrNotFound.
	Get(ctx context.Context, key string) (Item, error)
	// List reads all keys with the prefix, sorted, and the revision they are complete up to.
	List(ctx context.Context, prefix string) ([]Item, int64, error)
	// Txn carries out all ops, or none when a condition does not hold (ErrConflict) or they are too many or too long
	// (ErrTooLarge). Each key may occur once; what DeleteAll removes, nowhere else. All written keys get the returned revision.
	Txn(ctx context.Context, ops ...Op) (int64, error)
	// Watch gives the changes under prefix with a revision above after, in order, until ctx
	// ends; then the channel is closed. ErrCompacted arrives as a batch.
	Watch(ctx context.Context, prefix string, after int64) <-chan Batch
	// Campaign waits until this process leads. id names it for people.
	Campaign(ctx context.Context, id string) (Lead, error)
	// Leader gives the id of who leads; "" when nobody does.
	Leader(ctx context.Context) (string, error)
}
