package story

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gearmesh.dev/api"
)

// The part of the story about pods with an identity.

// Stateful shows pods with an identity: what outlasts them, and what does not move.
func Stateful() []Step {
	s := &stateful{}
	return []Step{
		{"store-0 to store-2 start one after the other, seat-0 and seat-1 at once", s.begin},
		{"each knows who it is, and its name leads to it from every host", s.names},
		{"store-0 is deleted: its name, its number and its data are there again, in a new pod", s.replace},
		{"the host of seat-1 is cut off: seat-1 runs on the other one, and its name follows; the store of that host stays its own", s.cutOff},
		{"the host is back: its store is as it was, and nothing is left of the old seat-1", s.comeBack},
		{"store-2 is scaled away and comes back to its data", s.scale},
	}
}

// stateful is what the steps know of each other.
type stateful struct {
	manifest string
	pods     map[api.Name]api.Pod // before the host was cut off
	off      string               // the host that is
}

func (s *stateful) begin(ctx context.Context, w *World) error {
	text, err := os.ReadFile(filepath.Join(w.Root, "contrib/examples/stateful/stateful.yaml"))
	if err != nil {
		return err
	}
	s.manifest = string(text)
	if out, err := w.Apply(ctx, s.manifest); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	if s.pods, err = w.identities(ctx); err != nil {
		return err
	}
	if names := slices.Sorted(maps.Keys(s.pods)); strings.Join(asStrings(names), " ") != "seat-0 seat-1 store-0 store-1 store-2" {
		return fmt.Errorf("the pods are %q", names)
	}
	for _, next := range []api.Name{"store-1", "store-2"} {
		before := s.pods[api.OrdinalName("store", *s.pods[next].Spec.Ordinal-1)]
		if after := s.pods[next]; !after.Metadata.Created.After(before.Metadata.Created) {
			return fmt.Errorf("%s was made at %s, and %s at %s", next, after.Metadata.Created, before.Metadata.Name, before.Metadata.Created)
		}
	}
	return nil
}

func asStrings[T ~string](list []T) []string {
	var out []string
	for _, s := range list {
		out = append(out, string(s))
	}
	return out
}

// identities gives the pods by name that are there and not ending.
func (w *World) identities(ctx context.Context) (map[api.Name]api.Pod, error) {
	out := map[api.Name]api.Pod{}
	for _, service := range []string{"store", "seat"} {
		pods, err := w.Pods(ctx, service)
		if err != nil {
			return nil, err
		}
		for _, p := range pods {
			if !p.Metadata.Deleting {
				out[p.Metadata.Name] = p
			}
		}
	}
	return out, nil
}

// identity gives the pod of a name once it is ready, and another one than was.
func (w *World) identity(ctx context.Context, name api.Name, was api.UID) (pod api.Pod, err error) {
	err = Until(ctx, Patience, func() error {
		pods, err := w.identities(ctx)
		if err != nil {
			return err
		}
		var found bool
		if pod, found = pods[name]; !found || !pod.Status.Ready || pod.Metadata.UID == was {
			return fmt.Errorf("%s is not ready anew: %s", name, phases(slices.Collect(maps.Values(pods))))
		}
		return nil
	})
	return pod, err
}

func (s *stateful) names(ctx context.Context, w *World) error {
	for name, p := range s.pods {
		out, err := w.Gear(ctx, "exec", "-p", Project, string(name), "--", "sh", "-c", "echo $GEAR_POD $GEAR_ORDINAL $(cat /etc/hostname) $GEAR_FENCING_TOKEN; [ ! -d /data ] || echo $GEAR_POD >/data/who")
		if err != nil {
			return err
		}
		want := []string{string(name), fmt.Sprint(*p.Spec.Ordinal), string(name)}
		if p.Singleton() {
			want = append(want, fmt.Sprint(p.Spec.Fence))
		}
		if got := strings.Fields(out); !slices.Equal(got, want) {
			return fmt.Errorf("%s says that it is %q; want %q", name, got, want)
		}
		for host := range w.hosts {
			if err := w.leadsTo(ctx, host, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// leadsTo waits until a pod's name leads to its host, as a host tells it.
func (w *World) leadsTo(ctx context.Context, from string, p api.Pod) error {
	return Until(ctx, Patience, func() error {
		got, err := w.Dig(ctx, from, fmt.Sprintf("%s.pod.%s.gear.internal", p.Metadata.Name, Project), "A")
		if want := w.hosts[string(p.Spec.Host)].String(); err == nil && strings.TrimSpace(got) != want {
			err = fmt.Errorf("%s tells that %s is at %q; it is at %s", from, p.Metadata.Name, got, want)
		}
		return err
	})
}

// remembers tells whether a pod has the data that the one of its name has written.
func (w *World) remembers(ctx context.Context, name string) error {
	out, err := w.Gear(ctx, "exec", "-p", Project, name, "--", "cat", "/data/who")
	if err == nil && strings.TrimSpace(out) != name {
		err = fmt.Errorf("%s finds the data of %q", name, out)
	}
	return err
}

func (s *stateful) replace(ctx context.Context, w *World) error {
	was := s.pods["store-0"]
	if _, err := w.Gear(ctx, "delete", "pod", "store-0", "-p", Project, "--confirm", "store-0"); err != nil {
		return err
	}
	pod, err := w.identity(ctx, "store-0", was.Metadata.UID)
	if err != nil {
		return err
	}
	if pod.Spec.Host != was.Spec.Host {
		return fmt.Errorf("store-0 was on %s, where its volume is, and is on %s", was.Spec.Host, pod.Spec.Host)
	}
	s.pods["store-0"] = pod
	return w.remembers(ctx, "store-0")
}

func (s *stateful) cutOff(ctx context.Context, w *World) error {
	was := s.pods["seat-1"]
	s.off = string(was.Spec.Host)
	if err := w.Lab.Partition(ctx, s.off); err != nil {
		return err
	}
	start := time.Now()
	pod, err := w.identity(ctx, "seat-1", was.Metadata.UID)
	if err != nil {
		return err
	}
	w.Say("seat-1 is ready on %s %.1f s after %s was cut off", pod.Spec.Host, time.Since(start).Seconds(), s.off)
	if string(pod.Spec.Host) == s.off || pod.Spec.Fence <= was.Spec.Fence {
		return fmt.Errorf("seat-1 is on %s with token %d, and was on %s with %d", pod.Spec.Host, pod.Spec.Fence, s.off, was.Spec.Fence)
	}
	for host := range w.hosts {
		if host != s.off {
			if err := w.leadsTo(ctx, host, pod); err != nil {
				return err
			}
		}
	}
	return s.storesStay(ctx, w)
}

// storesStay checks that no store is another pod than it was.
func (s *stateful) storesStay(ctx context.Context, w *World) error {
	now, err := w.identities(ctx)
	if err != nil {
		return err
	}
	for name, was := range s.pods {
		if p := now[name]; was.Spec.Service == "store" && p.Metadata.UID != was.Metadata.UID {
			return fmt.Errorf("%s was %s on %s and is %s on %s", name, was.Metadata.UID, was.Spec.Host, p.Metadata.UID, p.Spec.Host)
		}
	}
	return nil
}

func (s *stateful) comeBack(ctx context.Context, w *World) error {
	if err := w.Lab.Heal(ctx, s.off); err != nil {
		return err
	}
	if err := w.Ready(ctx, "store", 3, "seat", 2); err != nil {
		return err
	}
	left := fmt.Sprintf("! ls /etc/systemd/system/ | grep gear-%s-seat-1", Project)
	err := Until(ctx, Patience, func() error { _, err := w.Exec(ctx, s.off, "sh", "-c", left); return err })
	return errors.Join(err, s.storesStay(ctx, w))
}

func (s *stateful) scale(ctx context.Context, w *World) error {
	was := s.pods["store-2"]
	for _, n := range []int{2, 3} {
		if out, err := w.Apply(ctx, strings.Replace(s.manifest, "replicas: 3", fmt.Sprint("replicas: ", n), 1)); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		if n == 2 {
			if err := w.keptFor(ctx, was); err != nil {
				return err
			}
		}
	}
	pod, err := w.identity(ctx, "store-2", was.Metadata.UID)
	if err != nil {
		return err
	}
	if pod.Spec.Host != was.Spec.Host {
		return fmt.Errorf("store-2 was on %s, where its volume is, and is on %s", was.Spec.Host, pod.Spec.Host)
	}
	return w.remembers(ctx, "store-2")
}

// keptFor waits until a pod has ended, and checks that what is kept of it says where its volumes are.
func (w *World) keptFor(ctx context.Context, was api.Pod) error {
	return Until(ctx, Patience, func() error {
		var p api.Pod
		err := w.JSON(ctx, &p, "get", "pod", string(was.Metadata.Name), "-p", Project)
		if err == nil && (p.Status.Phase != api.PhaseGone || !strings.Contains(p.Status.Message, "volumes are kept on host "+string(was.Spec.Host))) {
			err = fmt.Errorf("%s is %s: %s", was.Metadata.Name, p.Status.Phase, p.Status.Message)
		}
		return err
	})
}
