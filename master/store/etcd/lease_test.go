package etcd

import (
	"testing"
	"time"

	"gearmesh.dev/api"
)

// TestSingletonsOutlastALeader: from the last report that a leader has answered to the first that the next one does, in the worst case, passes
// less than a singleton's lease.
func TestSingletonsOutlastALeader(t *testing.T) {
	const (
		election = 2 * time.Second // of the store; it gives leases their time anew, and what its election may take
		noticed  = time.Second     // until the next one leads and hosts have found it
	)
	if gone := api.ReportEvery + election + leaseSeconds*time.Second + noticed; gone >= api.SingletonLease {
		t.Errorf("a change of the leader takes up to %s, and the lease is %s", gone, api.SingletonLease)
	}
}
