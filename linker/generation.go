package linker

import (
	"context"
	"fmt"
	"strings"

	"gearmesh.dev/internal/hostexec"
)

// Chosen tells which kind of iptables is this host's own choice.
func Chosen(ctx context.Context) (Variant, error) {
	out, err := hostexec.Run(ctx, hostexec.Cmd{Argv: []string{"iptables", "--version"}})
	if err != nil {
		return HostChoice, fmt.Errorf("asking which iptables this host has: %w", err)
	}
	if strings.Contains(string(out), "nf_tables") {
		return NFT, nil
	}
	return Legacy, nil
}

// nextGeneration gives the number after one change (nf_tables_commit in net/netfilter/nf_tables_api.c leaves out 0).
func nextGeneration(g uint32) uint32 { return max(g+1, 1) }
