package unitgen

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"gearmesh.dev/api"
)

func TestChanges(t *testing.T) {
	pod := func(change func(*api.PodTemplate)) *api.Pod {
		p := &api.Pod{}
		p.Metadata.Project, p.Metadata.Name, p.Metadata.UID = "shop", "web-pod", "aaaaaaaaaaaaaaaa"
		p.Spec.Service = "web"
		p.Spec.Template.Containers = []api.Container{{Name: "main", Resources: api.Resources{CPU: 500, Memory: 96 << 20}}, {Name: "log", Resources: api.Resources{CPU: 100, Memory: 1 << 20}}}
		change(&p.Spec.Template)
		return p
	}
	same := pod(func(*api.PodTemplate) {})
	tests := map[string]struct {
		was, will *api.Pod
		want      []api.UnitChange
	}{
		"nothing": {same, pod(func(t *api.PodTemplate) { t.Env = map[string]string{"A": "b"} }), nil},
		"a limit": {same, pod(func(t *api.PodTemplate) { t.Containers[0].Resources.Memory = 127 << 20 }),
			[]api.UnitChange{{Unit: `gear-shop-web\x2dpod.slice`, Change: "changed", Diff: "-MemoryMax=101711872\n+MemoryMax=134217728\n"}}},
		"a container less": {same, pod(func(t *api.PodTemplate) { t.Containers = t.Containers[:1] }),
			[]api.UnitChange{
				{Unit: `gear-shop-web\x2dpod.slice`, Change: "changed", Diff: "-CPUQuota=60%\n-MemoryMax=101711872\n-TasksMax=8192\n+CPUQuota=50%\n+MemoryMax=100663296\n+TasksMax=4096\n"},
				{Unit: "gear-shop-web-pod-log.service", Change: "removed"}}},
		"a new pod": {nil, pod(func(t *api.PodTemplate) { t.Containers = t.Containers[:1] }), []api.UnitChange{
			{Unit: "gear-shop.slice", Change: "added"}, {Unit: `gear-shop-web\x2dpod.slice`, Change: "added"},
			{Unit: "gear-shop-web-pod-net.service", Change: "added"}, {Unit: "gear-shop-web-pod.service", Change: "added"}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Changes(tt.was, tt.will)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := Changes(nil, &api.Pod{}); err == nil {
		t.Error("a pod without a name has units")
	}
}
