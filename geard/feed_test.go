package geard_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"gearmesh.dev/api"
)

// readLinks is a program in a container: it sends each state of the pod's links that it is told of, and closes the channel when the
// stream ends.
func (r *rig) readLinks(uid api.UID) (<-chan api.LinkFeed, error) {
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", r.dirs.LinksSocket(uid))
	}}}
	resp, err := c.Get("http://links/v1/links/stream") //nolint:bodyclose // what reads the stream closes it
	if err != nil {
		return nil, err
	}
	out := make(chan api.LinkFeed, 1000)
	go func() {
		defer close(out)
		defer resp.Body.Close()
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			var f api.LinkFeed
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && json.Unmarshal([]byte(data), &f) == nil {
				out <- f
			}
		}
	}()
	return out, nil
}

// untilTold waits until a pod is told of exactly these backends of its first link, and gives what else it was told.
func (r *rig) untilTold(told <-chan api.LinkFeed, want ...string) (last api.LinkFeed) {
	r.t.Helper()
	r.until("the pod to be told of "+strings.Join(want, " "), func() bool {
		select {
		case f, ok := <-told:
			if !ok {
				r.t.Fatal("the stream has ended")
			}
			last = f
		default:
		}
		var got []string
		for _, l := range last.Links[:min(1, len(last.Links))] {
			for _, b := range l.Backends {
				got = append(got, b.Address.String())
			}
		}
		return len(last.Links) > 0 && slices.Equal(got, want)
	})
	return last
}

// TestFeed: a container is told of its pod's links, and of every change; of another project's services not a word. A new agent tells it on.
func TestFeed(t *testing.T) {
	r := newRig(t)
	h2 := netip.MustParseAddr("10.0.0.2")
	seq := int64(1)
	db := func(ports ...uint16) {
		e := api.HostEndpoints{Host: "h2", Seq: seq}
		for _, p := range ports {
			e.Endpoints = append(e.Endpoints, api.Endpoint{Project: "shop", Service: "db", Port: "sql", Protocol: api.TCP, Address: netip.AddrPortFrom(h2, p), Ready: true})
		}
		e.Endpoints = append(e.Endpoints, api.Endpoint{Project: "bank", Service: "vault", Port: "sql", Protocol: api.TCP, Address: netip.AddrPortFrom(h2, 29999), Ready: true})
		seq++
		r.master.patches <- api.Patch{Term: 1, Endpoints: []api.HostEndpoints{e}}
	}
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA, api.Link{Service: "db", LocalPort: 6379}), pod(uidB)},
		Hosts: []api.HostEntry{{Name: "h1", Address: netip.MustParseAddr("10.0.0.1")}, {Name: "h2", Address: h2}},
		Services: []api.ServiceEntry{{Project: "shop", Name: "db", Ports: []api.Port{{Name: "sql", Port: 1}}},
			{Project: "bank", Name: "vault", Ports: []api.Port{{Name: "sql", Port: 1}}}}}
	r.until("both pods to be up", func() bool { return r.status(uidA).Ready && r.status(uidB).Ready })

	told, err := r.readLinks(uidA)
	if err != nil {
		t.Fatal(err)
	}
	r.untilTold(told)
	db(20001)
	r.untilTold(told, "10.0.0.2:20001")
	db(20001, 20002)
	r.untilTold(told, "10.0.0.2:20001", "10.0.0.2:20002")
	r.mesh.set(func() { r.mesh.down["h2"] = true })
	r.untilTold(told)
	r.mesh.set(func() { r.mesh.down["h2"] = false })
	last := r.untilTold(told, "10.0.0.2:20001", "10.0.0.2:20002")
	if text, _ := json.Marshal(last); last.Pod != "web-aaaaa" || last.Project != "shop" || strings.Contains(string(text), "vault") || strings.Contains(string(text), "29999") {
		t.Errorf("it was told %s", text)
	}
	other, err := r.readLinks(uidB)
	if err != nil {
		t.Fatal(err)
	}
	if f := <-other; f.Pod != "web-bbbbb" || len(f.Links) > 0 {
		t.Errorf("the pod without links was told %+v", f)
	}

	r.stop()
	for range told { // until it ends
	}
	r.start()
	r.until("the stream to be open again", func() bool { told, err = r.readLinks(uidA); return err == nil })
	again := r.untilTold(told, "10.0.0.2:20001", "10.0.0.2:20002")
	if again.ID <= last.ID {
		t.Errorf("id %d came after %d", again.ID, last.ID)
	}

	r.master.patches <- api.Patch{Term: 1, Pods: []api.Pod{deleting(pod(uidA)), deleting(pod(uidB))}}
	r.until("the pods to be gone", func() bool { return r.status(uidA).Phase == api.PhaseGone && r.status(uidB).Phase == api.PhaseGone })
	for range told {
	}
	for _, uid := range []api.UID{uidA, uidB} {
		if _, err := os.Stat(r.dirs.RunPod(uid)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("of %s there is left %q, %v", uid, r.dirs.RunPod(uid), err)
		}
	}
}

// The socket is there before the pod's first container starts (the pull is tried again a second later), and a container that has no
// agent is refused at once.
func TestFeedIsThereBeforeTheStart(t *testing.T) {
	r := newRig(t)
	r.host.Crash = "pull"
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA, api.Link{Service: "db", LocalPort: 6379})}}
	r.until("the images to be pulled", func() bool { return slices.Contains(r.host.Calls(), "pull web-aaaaa") })
	if info, err := os.Stat(r.dirs.LinksSocket(uidA)); err != nil || info.Mode().Type() != fs.ModeSocket {
		t.Errorf("before the start: %v, %v", info, err)
	}
	r.stop()
	if _, err := r.readLinks(uidA); err == nil {
		t.Error("without an agent somebody answers")
	}
}
