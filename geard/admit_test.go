package geard

import (
	"strings"
	"testing"

	"gearmesh.dev/api"
)

func TestAdmit(t *testing.T) {
	pod := func(p api.Policy, o api.ContainerOptions, volumes ...api.Volume) api.Pod {
		x := *api.New(api.KindPod).(*api.Pod)
		x.Metadata = api.Metadata{Name: "web-aaaaa", Project: "shop", UID: "aaaaaaaaaaaaaaaa"}
		x.Spec = api.PodSpec{Service: "web", Policy: p, Template: api.PodTemplate{
			Containers: []api.Container{{Name: "main", Image: "example.com/web:1", ContainerOptions: o}}, Volumes: volumes}}
		return x
	}
	socket := api.ContainerOptions{HostPaths: []api.HostPath{{HostPath: "/run/docker.sock", Path: "/s"}}}
	chown := api.ContainerOptions{CapAdd: []api.Capability{"CHOWN"}}
	tests := map[string]struct {
		pod  api.Pod
		most api.Policy
		want string // "" when it is let in
	}{
		"plain":                   {pod("", api.ContainerOptions{}), "", ""},
		"plain, on any host":      {pod("", api.ContainerOptions{}), api.PolicyPrivileged, ""},
		"as its policy says":      {pod(api.PolicyBaseline, chown), api.PolicyBaseline, ""},
		"more than its policy":    {pod("", chown), api.PolicyPrivileged, "its own policy does not allow"},
		"more than the host":      {pod(api.PolicyPrivileged, socket), api.PolicyBaseline, "--max-policy"},
		"a policy nobody knows":   {pod("root", socket), api.PolicyPrivileged, "its own policy does not allow"},
		"a volume that climbs":    {pod("", api.ContainerOptions{}, api.Volume{Name: "../../../etc"}), "", "is not valid"},
		"privileged, where it is": {pod(api.PolicyPrivileged, socket), api.PolicyPrivileged, ""},
	}
	for name, tt := range tests {
		err := admit(tt.pod, tt.most)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}
