package story

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"gearmesh.dev/api"
)

// fillAgain lets h2 lose its power and come back while web is to be rebalanced, and looks for one of its pods there in the end.
func fillAgain(ctx context.Context, w *World) error {
	if err := w.atRest(ctx, "h2"); err != nil { // which has just been off
		return err
	}
	before, err := w.startTimes(ctx, "web")
	if err != nil {
		return err
	}
	text, err := w.manifest()
	if err != nil {
		return err
	}
	text = strings.Replace(text, "in: [h2]", "in: [h3]", 1) // where db is
	if _, err := w.Apply(ctx, text+"  placement: {rebalance: true}\n"); err != nil {
		return err
	}
	after, err := w.startTimes(ctx, "web")
	if err != nil || !maps.Equal(before, after) {
		return fmt.Errorf("web was touched by placement.rebalance alone: before %v, after %v, %w", before, after, err)
	}
	if _, _, err := w.powerOff(ctx, "h2"); err != nil {
		return err
	}
	if err := w.Lab.Boot(ctx, "h2"); err != nil {
		return err
	}
	if err := Until(ctx, Patience, func() error { return w.hostsReady(ctx, "h2") }); err != nil {
		return err
	}
	if err := w.settle(ctx, "h1"); err != nil {
		return err
	}
	start, visits := time.Now(), w.visitAllTheTime(ctx)
	// The master waits for a while before it moves something for good measure.
	err = Until(ctx, 3*Patience, func() error { return w.onePodEach(ctx) })
	failed, tried := visits()
	if err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d visits failed while a pod moved to h2", failed, tried)
	}
	w.Say("a pod of web has moved to h2 after %.0f s; %d visits, none failed", time.Since(start).Seconds(), tried)
	return Until(ctx, Patience, func() error { return w.movedForAReason(ctx) })
}

// onePodEach tells whether each host has a pod of web, and nothing of another one is left.
func (w *World) onePodEach(ctx context.Context) error {
	pods, err := w.Pods(ctx, "web")
	if err != nil {
		return err
	}
	on := map[api.Name]bool{}
	for _, p := range pods {
		if p.Status.Ready && !p.Metadata.Deleting {
			on[p.Spec.Host] = true
		}
	}
	if len(on) != 3 || len(pods) != 3 {
		return fmt.Errorf("web is not on each host once: %s", phases(pods))
	}
	return nil
}

// movedForAReason asks why web has a pod on h2.
func (w *World) movedForAReason(ctx context.Context) error {
	pods, err := w.Pods(ctx, "web")
	if err != nil {
		return err
	}
	for _, p := range pods {
		if p.Spec.Host != "h2" {
			continue
		}
		out, err := w.Gear(ctx, "why", string(p.Metadata.Name), "-p", Project)
		if err == nil && !strings.Contains(out, "it takes the place of pod") {
			err = fmt.Errorf("gear why does not say that %s has moved:\n%s", p.Metadata.Name, out)
		}
		return err
	}
	return errors.New("web has no pod on h2")
}
