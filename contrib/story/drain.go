package story

import (
	"context"
	"fmt"
	"maps"
	"time"
)

// drainHost empties a host that has web pods while people visit, and lets it take pods again.
func drainHost(ctx context.Context, w *World) error {
	pods, err := w.Pods(ctx, "web")
	if err != nil {
		return err
	}
	host := ""
	for _, p := range pods {
		if p.Spec.Host != "h1" { // where the visits begin
			host = string(p.Spec.Host)
		}
	}
	if host == "" {
		return fmt.Errorf("all web pods are on h1: %s", phases(pods))
	}
	db, err := w.startTimes(ctx, "db")
	if err != nil {
		return err
	}
	if err := w.settle(ctx, "h1"); err != nil {
		return err
	}
	visits := w.visitAllTheTime(ctx)
	out, err := w.Gear(ctx, "host", "drain", host, "--timeout", "10m")
	failed, tried := visits()
	if err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d visits failed while %s was drained:\n%s", failed, tried, host, out)
	}
	if pods, err = w.Pods(ctx, "web"); err != nil {
		return err
	}
	for _, p := range pods {
		if string(p.Spec.Host) == host && !p.Metadata.Deleting {
			return fmt.Errorf("%s is still on the drained host: %s", p.Metadata.Name, phases(pods))
		}
	}
	w.Say("%s is empty but for volumes; %d visits, none failed", host, tried)
	after, err := w.startTimes(ctx, "db")
	if err != nil || !maps.Equal(db, after) {
		return fmt.Errorf("db, whose volume is where it is, was touched: before %v, after %v, %v", db, after, err)
	}
	_, err = w.Gear(ctx, "host", "uncordon", host)
	return err
}

// visitAllTheTime visits by h1 until the returned function is called, which tells how many visits failed, and how many there were.
func (w *World) visitAllTheTime(ctx context.Context) func() (failed, tried int) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan [2]int)
	go func() {
		failed, tried := 0, 0
		for ctx.Err() == nil {
			_, _, err := w.Visit(ctx, "h1")
			if ctx.Err() != nil {
				break
			}
			if tried++; err != nil {
				failed++
				w.Say("a visit failed: %v", err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		done <- [2]int{failed, tried}
	}()
	return func() (int, int) {
		cancel()
		n := <-done
		return n[0], n[1]
	}
}
