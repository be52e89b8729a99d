package unitgen_test

import (
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/golden"
	"gearmesh.dev/unitgen"
)

const uid = api.UID("k3v7qxw2m5n4a6bz")

func pod(project, name api.Name, containers ...api.Container) api.Pod {
	p := api.Pod{Header: api.Header{Kind: api.KindPod, Metadata: api.Metadata{Name: name, Project: project, UID: uid}}}
	p.Spec.Service = "web"
	p.Spec.Template.Containers = containers
	return p
}

func shop() api.Pod {
	return pod("my-shop", "web-7f3k2",
		api.Container{Name: "main", Image: "shop", StopGrace: 30e9, Resources: api.Resources{CPU: 1500, Memory: 256 << 20}},
		api.Container{Name: "log", Image: "log", Resources: api.Resources{CPU: 255, Memory: 64 << 20}})
}

// ordered has two init containers, and a container that waits for another.
func ordered() api.Pod {
	p := pod("my-shop", "web-7f3k2", api.Container{Name: "main", After: []api.Name{"db"}}, api.Container{Name: "db"})
	p.Spec.Template.InitContainers = []api.Container{{Name: "schema"}, {Name: "seed"}}
	return p
}

// waiting has links that its containers wait for, and one that they do not.
func waiting() api.Pod {
	p := pod("my-shop", "web-7f3k2", api.Container{Name: "main"}, api.Container{Name: "log"})
	p.Spec.Template.Links = []api.Link{{Service: "cache", LocalPort: 6379}, {Service: "db", LocalPort: 5432, WaitFor: api.WaitReady},
		{Service: "queue", Project: "infra", LocalPort: 5672, WaitFor: api.WaitAlways}}
	return p
}

// shared has containers that see each other's processes.
func shared() api.Pod {
	p := pod("my-shop", "web-7f3k2", api.Container{Name: "main"}, api.Container{Name: "shell"})
	p.Spec.Template.ShareProcesses = true
	return p
}

// native has a program of the host beside a container.
func native() api.Pod {
	return pod("my-shop", "web-7f3k2",
		api.Container{Name: "main", Image: "shop"},
		api.Container{Name: "proxy", Native: &api.Native{Command: []string{"/usr/sbin/haproxy", "-f", "%n\n$HOME"}, User: "haproxy"},
			Resources: api.Resources{CPU: 500, Memory: 64 << 20}, StopSignal: "SIGUSR1"},
		api.Container{Name: "other", Native: &api.Native{Command: []string{"/bin/sleep", "9"}}})
}

// singleton is one whose names have to be escaped.
func singleton() api.Pod {
	p := pod("my-shop", "mail-7f3k2", api.Container{Name: "main", StopGrace: 2e9}, api.Container{Name: "log", StopGrace: 4e9})
	p.Spec.Template.InitContainers = []api.Container{{Name: "schema"}}
	p.Spec.Fence = 42
	return p
}

func render(t testing.TB, p api.Pod) []unitgen.File {
	t.Helper()
	files, err := unitgen.Render(p)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestRenderGolden(t *testing.T) {
	pods := map[string]api.Pod{
		"two-containers": shop(),
		"ordered":        ordered(),
		"shared":         shared(),
		"native":         native(),
		"waiting":        waiting(),
		"singleton":      singleton(),
		"no-limits":      pod("shop", "web-1", api.Container{Name: "main", Resources: api.Resources{CPU: 500}}, api.Container{Name: "log"}),
	}
	for name, p := range pods {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			for _, f := range render(t, p) {
				b.WriteString("==> " + f.Name + " <==\n" + f.Text + "\n")
			}
			golden.Equal(t, name+".txt", []byte(b.String()))
		})
	}
}

func TestRenderDependsOnWhatNeverChanges(t *testing.T) {
	before, changed := shop(), shop()
	changed.Metadata.Deleting, changed.Metadata.Revision = true, 9
	changed.Spec.Host, changed.Spec.Term, changed.Status.Phase = "h1", 4, api.PhaseRunning
	a, b := render(t, before), render(t, changed)
	for i := range a {
		if a[i] != b[i] {
			t.Errorf("%s changed with the pod's state", a[i].Name)
		}
	}
}

func TestRenderRefuses(t *testing.T) {
	tests := map[string]struct {
		change func(*api.Pod)
		want   string
	}{
		"path in name":                    {func(p *api.Pod) { p.Metadata.Name = "../../x" }, "has \".\""},
		"newline":                         {func(p *api.Pod) { p.Spec.Service = "a\nExecStart=/bin/sh" }, `has "\n"`},
		"specifier":                       {func(p *api.Pod) { p.Metadata.Project = "a%n" }, `has "%"`},
		"container lapsed of a singleton": {func(p *api.Pod) { p.Spec.Fence, p.Spec.Template.Containers[1].Name = 1, "lapsed" }, "is taken"},
		"no uid":                          {func(p *api.Pod) { p.Metadata.UID = "" }, "uid"},
		"container net":                   {func(p *api.Pod) { p.Spec.Template.Containers[1].Name = "net" }, "is taken"},
		"container twice":                 {func(p *api.Pod) { p.Spec.Template.Containers[1].Name = "main" }, "is taken"},
		"container $(x)":                  {func(p *api.Pod) { p.Spec.Template.Containers[1].Name = "$(x)" }, `has "$"`},
		"hostile user": {func(p *api.Pod) {
			p.Spec.Template.Containers[0].Native = &api.Native{Command: []string{"/bin/x"}, User: "a\nExecStart=/bin/sh"}
		}, "is no user name"},
		"hostile signal": {func(p *api.Pod) {
			p.Spec.Template.Containers[0].Native, p.Spec.Template.Containers[0].StopSignal = &api.Native{Command: []string{"/bin/x"}}, "SIG%n"
		}, "is no signal"},
		"container with \\": {func(p *api.Pod) { p.Spec.Template.Containers[0].Name = `x\` }, `has "\\"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := shop()
			tt.change(&p)
			files, err := unitgen.Render(p)
			if err == nil || !strings.Contains(err.Error(), tt.want) || files != nil {
				t.Fatalf("got %d files and %v, want none and %q", len(files), err, tt.want)
			}
		})
	}
}

func TestWantsAreContainersOnly(t *testing.T) {
	got := strings.Join(unitgen.Wants(shop()), " ")
	if want := "gear-my-shop-web-7f3k2.service gear-my-shop-web-7f3k2-log.service"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What ends a singleton names all of its units, and nothing starts one at boot.
func TestSingletonStartsByItsAgentAlone(t *testing.T) {
	p, text := singleton(), map[string]string{}
	for _, f := range render(t, p) {
		text[f.Name] = f.Text
	}
	lapsed, timer := text[unitgen.LapsedUnit("my-shop", "mail-7f3k2")], unitgen.LeaseTimer("my-shop", "mail-7f3k2")
	if text[timer] == "" || len(unitgen.Wants(p)) > 0 {
		t.Errorf("the timer is %q; at boot start %q", text[timer], unitgen.Wants(p))
	}
	conflicts := ""
	for line := range strings.Lines(lapsed) {
		if strings.HasPrefix(line, "Conflicts=") {
			conflicts = strings.TrimSpace(strings.TrimPrefix(line, "Conflicts=")) + " "
		}
	}
	for _, unit := range unitgen.ContainerUnits(p) {
		if !strings.Contains(conflicts, unit+" ") {
			t.Errorf("%s is not ended: %q", unit, conflicts)
		}
		if strings.Contains(text[unit], "WantedBy") || !strings.Contains(text[unit], "Wants="+timer+"\n") {
			t.Errorf("%s starts without its timer:\n%s", unit, text[unit])
		}
	}
	own := unitgen.OwnUnits(p)
	if own[len(own)-1] != timer {
		t.Errorf("with the pod go %q, and the timer is not stopped first of them", own)
	}
}

func TestOwner(t *testing.T) {
	for _, f := range render(t, shop()) {
		if !unitgen.Owned(f.Text) {
			t.Errorf("%s is not taken for ours", f.Name)
		}
	}
	if unitgen.Owned("[Unit]\n") {
		t.Error("a stranger's file is taken for ours")
	}
}

func TestNothingStopsPodsWithDockerd(t *testing.T) {
	for _, f := range render(t, shop()) {
		for line := range strings.Lines(f.Text) {
			if strings.Contains(line, "docker") && !strings.HasPrefix(line, "After=") {
				t.Errorf("%s: %s ties the pod to dockerd", f.Name, line)
			}
		}
	}
}
