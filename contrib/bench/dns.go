package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/internal/hostexec"
)

// What P6 asks for: names of the cluster, and as many of a domain that knot alone knows, for forwarding.
const (
	dnsNames  = 10_000
	dnsWorld  = "world.example"
	dnsPeriod = 4 * time.Second
	dnsRate   = 10_000 // queries a second at which latency is measured: every server can do more
)

// dnsFigure is what one run of dnsperf tells of a server.
type dnsFigure struct {
	qps  float64
	cpu  float64 // of the server, in microseconds a query
	p99  float64 // in milliseconds, at dnsRate
	lost float64
}

// measureNames is P6: DNS servers of one thread each, all on this machine, asked in turns. It needs no lab.
func measureNames(ctx context.Context, b *bench) (rows []figures.Row, err error) {
	dir, err := os.MkdirTemp("", "gear-bench-dns")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := writeQueries(dir); err != nil {
		return nil, err
	}
	servers, err := startServers(ctx, dir)
	defer func() { err = errors.Join(err, stopServers(servers)) }()
	if err != nil {
		return nil, err
	}
	known, cached := map[string][]dnsFigure{}, map[string][]dnsFigure{}
	for i := range b.runs {
		for _, s := range servers {
			f, err := s.measure(ctx, filepath.Join(dir, "names"))
			if err != nil {
				return nil, err
			}
			known[s.name] = append(known[s.name], f)
			b.say("P6 run %d: %s: %.0f queries/s, %.2f µs each, p99 %.3f ms, %.0f lost", i, s.name, f.qps, f.cpu, f.p99, f.lost)
			if s.name == "knot" {
				continue // it forwards nothing
			}
			if f, err = s.measure(ctx, filepath.Join(dir, "world")); err != nil {
				return nil, err
			}
			cached[s.name] = append(cached[s.name], f)
			b.say("P6 run %d: %s, forwarded names: %.0f queries/s, %.2f µs each", i, s.name, f.qps, f.cpu)
		}
	}
	return nameRows(known, cached), nil
}

// writeQueries writes what dnsperf asks: every name once, in an order that no server could like.
func writeQueries(dir string) error {
	for file, domain := range map[string]string{"names": "gear.internal", "world": dnsWorld} {
		var text strings.Builder
		for i := range dnsNames {
			fmt.Fprintf(&text, "%s A\n", benchName(i*7919%dnsNames, domain))
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text.String()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// benchName gives the name of the ith service.
func benchName(i int, domain string) string { return fmt.Sprintf("s%d.p%d.%s", i, i%50, domain) }

// measure asks a server every name once, then as fast as it answers, then at a fixed rate.
func (s *dnsServer) measure(ctx context.Context, queries string) (f dnsFigure, err error) {
	ask := func(more ...string) (string, error) {
		argv := append(onCPU(1, "dnsperf", "-s", "127.0.0.1", "-p", strconv.Itoa(s.port), "-d", queries, "-t", "2", "-e"), more...)
		out, err := hostexec.Run(ctx, hostexec.Cmd{Argv: argv})
		return string(out), err
	}
	if _, err := ask("-n", "1", "-q", "20"); err != nil {
		return f, err
	}
	before, err := s.cpuTime()
	if err != nil {
		return f, err
	}
	fast, err := ask("-l", strconv.Itoa(int(dnsPeriod.Seconds())), "-q", "200", "-c", "16")
	if err != nil {
		return f, err
	}
	after, err := s.cpuTime()
	if err != nil {
		return f, err
	}
	completed, lost, qps, err := readPerf(fast)
	if err != nil {
		return f, err
	}
	steady, err := ask("-n", "2", "-Q", strconv.Itoa(dnsRate), "-v")
	if err != nil {
		return f, err
	}
	f = dnsFigure{qps: qps, lost: lost, cpu: float64((after - before).Microseconds()) / completed}
	f.p99, err = latency99(steady)
	return f, err
}

// readPerf reads dnsperf's summary.
func readPerf(text string) (completed, lost, qps float64, err error) {
	for _, field := range []struct {
		name string
		to   *float64
	}{{"Queries completed:", &completed}, {"Queries lost:", &lost}, {"Queries per second:", &qps}} {
		_, after, ok := strings.Cut(text, field.name)
		if _, err := fmt.Sscan(after, field.to); !ok || err != nil {
			return 0, 0, 0, fmt.Errorf("dnsperf says no %q: %.300s", field.name, text)
		}
	}
	if completed == 0 || strings.Count(text, "NOERROR") != 1 || !strings.Contains(text, "NOERROR "+strconv.Itoa(int(completed))+" (100.00%)") {
		return 0, 0, 0, fmt.Errorf("not every answer is good: %s", text)
	}
	return completed, lost, qps, nil
}

// latency99 gives the 99th percentile of the latencies that dnsperf -v prints: lines of rcode, name, type and seconds.
func latency99(text string) (float64, error) {
	var all []float64
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) != 5 || words[0] != ">" {
			continue
		}
		s, err := strconv.ParseFloat(words[4], 64)
		if err != nil {
			return 0, fmt.Errorf("dnsperf says %q: %w", line, err)
		}
		all = append(all, s*1000)
	}
	if len(all) < dnsNames {
		return 0, fmt.Errorf("dnsperf tells the latency of %d queries, want %d or more: %.300s", len(all), dnsNames, text)
	}
	slices.Sort(all)
	return all[len(all)*99/100], nil
}

func nameRows(known, cached map[string][]dnsFigure) []figures.Row {
	row := func(of map[string][]dnsFigure, server, id, what, unit string, value func(dnsFigure) float64) figures.Row {
		var samples []float64
		for _, f := range of[server] {
			samples = append(samples, value(f))
		}
		return figures.Amounts(id, what, unit, samples)
	}
	qps := func(f dnsFigure) float64 { return f.qps }
	against := func(of map[string][]dnsFigure, peer, id, what, unit string, value func(dnsFigure) float64) figures.Row {
		return row(of, "dnsd", id, what, unit, value).Against(peer, row(of, peer, "", "", "", value).Value)
	}
	first := against(known, "knot", "P6", "DNS, 10,000 names, one thread, as fast as it goes", "queries/s", qps)
	rows := []figures.Row{first.WithGoal("≥ 1.00 × peer", first.Ratio >= 1),
		row(known, "dnsd", "P6.lost", "queries of these without an answer, in the worst run", "queries", func(f dnsFigure) float64 { return f.lost }).Slowest().AtMost(0),
		against(known, "unbound", "P6.unbound", "the same beside unbound (local-data)", "queries/s", qps),
		against(known, "dnsmasq", "P6.dnsmasq", "the same beside dnsmasq (hosts file)", "queries/s", qps)}
	for _, peer := range []string{"knot", "unbound", "dnsmasq"} {
		rows = append(rows, against(known, peer, "P6.cpu."+peer, "processor time of the server for a query", "µs", func(f dnsFigure) float64 { return f.cpu }),
			against(known, peer, "P6.p99."+peer, "99 % are answered within, at 10,000 queries/s", "ms", func(f dnsFigure) float64 { return f.p99 }))
	}
	for _, peer := range []string{"unbound", "dnsmasq"} {
		rows = append(rows, against(cached, peer, "P6.forward."+peer, "forwarded names from the cache, 10,000 of them", "queries/s", qps))
	}
	return rows
}
