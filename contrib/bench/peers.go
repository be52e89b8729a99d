package main

import (
	"context"
	"time"

	"gearmesh.dev/contrib/figures"
)

// peerPackages are the peers that are no part of a lab host otherwise.
func peerPackages() []string { return []string{"podman"} }

// podmanRun is dockerRun with podman, whose images lie on a real file system. It gets the image from dockerd.
const podmanRun = `
	podman() { command podman --root /var/lib/docker/peer-podman --runroot /run/peer-podman --cgroup-manager cgroupfs "$@"; }
	podman image exists "$1" || docker save "$1" | podman load >/dev/null
	start=$(date +%s%N)
	id=$(podman run -d --network host "$1")
	echo $start $(podman inspect -f '{{.State.StartedAt.UTC.Format "2006-01-02T15:04:05.999999999Z07:00"}}' $id)
	podman rm -f -t 0 $id >/dev/null`

// crunRun runs the image's program with crun alone: what the kernel and a runtime need, without images, logs or a daemon.
const crunRun = `
	dir=/var/lib/docker/peer-crun
	if [ ! -d $dir ]; then
		mkdir -p $dir/rootfs
		id=$(docker create "$1")
		docker export $id | tar -C $dir/rootfs -x
		docker rm $id >/dev/null
		cd $dir
		crun spec
		perl -0pi -e 's/"terminal": true/"terminal": false/; s/"sh"/"\/web"/; s/\{\s*"type": "network"\s*\},//' config.json
	fi
	start=$(date +%s%N)
	crun run --detach --bundle $dir peer </dev/null >/dev/null 2>&1
	echo $start $(date -u +%FT%T.%NZ)
	crun delete -f peer`

// measurePeers times other ways to start the same container on the host's network, in the same run.
func measurePeers(ctx context.Context, b *bench) ([]figures.Row, error) {
	var rows []figures.Row
	for _, p := range []struct{ id, what, script string }{
		{"P1.podman", "podman run -d --network host", podmanRun},
		{"P1.crun", "crun run --detach, on the host's network", crunRun},
	} {
		var took []time.Duration
		for i := range b.runs + 1 {
			t, err := b.peerStart(ctx, p.script, webImage)
			if err != nil {
				return nil, err
			}
			if i > 0 { // the first one fetches the image
				took = append(took, t)
			}
		}
		rows = append(rows, figures.Times(p.id, p.what, took))
	}
	return rows, nil
}
