package main

import (
	"context"
	"fmt"

	"gearmesh.dev/geard/engine"
	"gearmesh.dev/geard/images"
)

// collectImages gives what bounds the old images on the disk of the engine behind a socket. which is "own" (images that the
// agent has pulled), "all" or "off".
func (d *agentDaemon) collectImages(socket, which string) (func(context.Context) error, error) {
	policy := images.Default()
	switch which {
	case "own":
	case "all":
		policy.All = true
	case "off":
		return func(context.Context) error { return nil }, nil
	default:
		return nil, fmt.Errorf("-images %q is not known; write own (images that the agent has pulled), all, or off", which)
	}
	eng, err := engine.New(socket)
	if err != nil {
		return nil, err
	}
	c := images.Collector{Policy: policy, Engine: eng, Record: d.host.Images(), Needed: d.agent.Images, DiskOf: images.DiskOf, Log: d.log}
	return c.Run, nil
}
