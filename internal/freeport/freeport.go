// Package freeport finds TCP ports for servers that a test starts later, in a process of its own for example.
package freeport

import (
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
)

// Ports from lowest on lie below the kernel's range for clients and for port 0: a port from there would be free now and any other
// test's when the server binds it. Each process has a share of its own, so that packages that are tested at once do not meet.
const (
	lowest = 20000
	share  = 100 // ports a process
	shares = 120
)

var (
	mu   sync.Mutex
	next uint16
)

// Row gives the first of n ports of 127.0.0.1 in a row that are free, n at most 20.
func Row(t testing.TB, n uint16) uint16 {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	for range share {
		if next+n > share {
			next = 0
		}
		first := lowest + share*uint16(os.Getpid()%shares) + next
		next += n
		if free(first, n) {
			return first
		}
	}
	t.Fatalf("no %d free ports in a row", n)
	return 0
}

func free(first, n uint16) bool {
	for p := first; p < first+n; p++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}
