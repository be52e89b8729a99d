//go:build lab

package story

import "testing"

// TestLabIPv6 shows pods, ports and egress over IPv6.
func TestLabIPv6(t *testing.T) { tell(t, "ipv6", Boot(), IPv6()) }
