package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"gearmesh.dev/contrib/figures"
)

// The idle footprint is that of a host with so many pods, over windows of this length.
const (
	idlePods   = 50
	idleWindow = 30 * time.Second
	settle     = 20 * time.Second
)

// ticksPerSecond is the unit of the times in /proc/PID/stat: USER_HZ, which is 100 on every
// platform that Go runs on (getconf CLK_TCK, proc(5)).
const ticksPerSecond = 100

// processes prints what /proc says of the processes of geard's units and of every gear-run.
const processes = `
	show() { echo "process $1"; cat /proc/$2/smaps_rollup; echo "stat $(cat /proc/$2/stat)"; }
	for unit in gear-agent gear-master; do
		pid=$(systemctl show -p MainPID --value $unit.service)
		[ "$pid" = 0 ] || show $unit $pid
	done
	for exe in /proc/[0-9]*/exe; do
		[ "$(readlink $exe)" = /usr/local/bin/gear-run ] || continue
		pid=${exe#/proc/}; pid=${pid%/exe}
		show gear-run $pid
	done`

// process is what one process uses.
type process struct {
	name    string
	pss     float64 // MiB; its share of what is shared
	private float64 // MiB; what would be free without it
	ticks   float64 // of CPU, ever, with the commands it has run
}

// readProcesses reads what the script prints.
func readProcesses(text string) ([]process, error) {
	var out []process
	for line := range strings.Lines(text) {
		key, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if key == "process" {
			out = append(out, process{name: rest})
			continue
		}
		if len(out) == 0 {
			return nil, fmt.Errorf("reading the processes of a host: %q belongs to none", line)
		}
		if err := out[len(out)-1].read(key, strings.Fields(rest)); err != nil {
			return nil, fmt.Errorf("reading %q: %w", line, err)
		}
	}
	return out, nil
}

// read takes a line of smaps_rollup ("Pss:   123 kB") or of stat.
func (p *process) read(key string, fields []string) error {
	switch key {
	case "Pss:":
		return addMiB(&p.pss, fields)
	case "Private_Clean:", "Private_Dirty:":
		return addMiB(&p.private, fields)
	case "stat":
		return p.readStat(fields)
	}
	return nil
}

func addMiB(to *float64, fields []string) error {
	if len(fields) == 0 {
		return fmt.Errorf("want a number of kB")
	}
	kb, err := strconv.ParseFloat(fields[0], 64)
	*to += kb / 1024
	return err
}

// readStat takes utime, stime, cutime and cstime, the fields 14 to 17: its own time and that of the
// commands it has run, such as iptables-save. The second field is the command's name in
// parentheses; ours have no space in them (proc(5)).
func (p *process) readStat(fields []string) error {
	if len(fields) < 17 {
		return fmt.Errorf("want at least 17 fields")
	}
	for _, f := range fields[13:17] {
		ticks, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return err
		}
		p.ticks += ticks
	}
	return nil
}

// usage is what the processes of one name use.
type usage struct {
	count             int
	pss, private, cpu []float64 // a sample a window; of several processes, their mean
}

// measureIdle is P9: what everything costs while nothing happens.
func measureIdle(ctx context.Context, b *bench) ([]figures.Row, error) {
	s := service("idle", idlePods, sleeper(), target)
	if err := b.put(ctx, s); err != nil {
		return nil, err
	}
	if _, err := b.ready(ctx, "idle", idlePods); err != nil {
		return nil, err
	}
	b.say("P9: %d pods run on %s; %v until it is quiet", idlePods, target, settle)
	if err := sleep(ctx, settle); err != nil {
		return nil, err
	}
	agent, runs, master := &usage{}, &usage{}, &usage{}
	for i := range b.runs {
		if err := b.idleWindow(ctx, agent, runs, master); err != nil {
			return nil, err
		}
		b.say("P9 window %d: agent %s %%, master %s %% of a core", i+1, figures.Number(agent.cpu[i]), figures.Number(master.cpu[i]))
	}
	if runs.count < idlePods {
		return nil, fmt.Errorf("%d gear-run on %s, want %d", runs.count, target, idlePods)
	}
	return idleRows(agent, runs, master), b.remove(ctx, s)
}

// idleWindow looks at the target and at the master's host before and after a while.
func (b *bench) idleWindow(ctx context.Context, agent, runs, master *usage) error {
	start := time.Now()
	here, err := b.processes(ctx, target)
	if err != nil {
		return err
	}
	there, err := b.processes(ctx, "h1")
	if err != nil {
		return err
	}
	if err := sleep(ctx, idleWindow-time.Since(start)); err != nil {
		return err
	}
	took := time.Since(start)
	hereAfter, err := b.processes(ctx, target)
	if err != nil {
		return err
	}
	thereAfter, err := b.processes(ctx, "h1")
	if err != nil {
		return err
	}
	agent.add("gear-agent", here, hereAfter, took)
	runs.add("gear-run", here, hereAfter, took)
	master.add("gear-master", there, thereAfter, took)
	return nil
}

func (b *bench) processes(ctx context.Context, host string) ([]process, error) {
	text, err := b.sh(ctx, host, processes)
	if err != nil {
		return nil, err
	}
	return readProcesses(text)
}

// add adds a sample: memory as it was at the end, and the CPU used in between.
func (u *usage) add(name string, before, after []process, took time.Duration) {
	var pss, private, ticks float64
	u.count = 0
	for _, p := range after {
		if p.name == name {
			pss, private, ticks = pss+p.pss, private+p.private, ticks+p.ticks
			u.count++
		}
	}
	for _, p := range before {
		if p.name == name {
			ticks -= p.ticks
		}
	}
	n := float64(max(u.count, 1))
	u.pss, u.private = append(u.pss, pss/n), append(u.private, private/n)
	u.cpu = append(u.cpu, 100*ticks/ticksPerSecond/took.Seconds()/n)
}

func idleRows(agent, runs, master *usage) []figures.Row {
	with := fmt.Sprintf("with %d pods on its host", idlePods)
	return []figures.Row{
		figures.Amounts("P9", "agent's memory (PSS) "+with, "MiB", agent.pss).AtMost(30),
		figures.Amounts("P9.cpu", "agent's CPU, with the commands it runs, "+with, "% of a core", agent.cpu).AtMost(0.3),
		figures.Amounts("P9.master", "master's memory with its store (PSS)", "MiB", master.pss).AtMost(80),
		figures.Amounts("P9.mastercpu", "master's CPU", "% of a core", master.cpu),
		figures.Amounts("P9.run", fmt.Sprintf("private memory of a gear-run, mean of %d", runs.count), "MiB", runs.private).AtMost(4),
		figures.Amounts("P9.runpss", "PSS of a gear-run", "MiB", runs.pss),
		figures.Amounts("P9.runcpu", "CPU of a gear-run", "% of a core", runs.cpu),
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
	return ctx.Err()
}
