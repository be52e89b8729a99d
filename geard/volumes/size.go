package volumes

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
)

// mountInfo is where the kernel lists mounts (proc_pid_mountinfo(5)).
const mountInfo = "/proc/self/mountinfo"

// Unbounded gives a sentence for each volume of the pods whose size nothing holds it to.
func Unbounded(dirs podstate.Dirs, pods []api.Pod) []string {
	var mounts []byte
	var out []string
	for _, p := range pods {
		for _, v := range p.Spec.Template.Volumes {
			if v.Size == 0 || v.Tmpfs {
				continue
			}
			dir, err := Path(dirs, p, v)
			if err != nil {
				continue // the pod's own status says so
			}
			if mounts == nil {
				if mounts, err = os.ReadFile(mountInfo); err != nil {
					return nil
				}
			}
			if kind, ok := countsProjects(string(mounts), dir); !ok {
				out = append(out, fmt.Sprintf("volume %s of %s/%s may grow beyond its %s: %s is on %s without project quotas; mount it with prjquota (ext4, xfs)",
					v.Name, p.Metadata.Project, p.Spec.Service, v.Size, dir, kind))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// countsProjects tells from mountinfo whether the file system that a path is on counts what projects
// use, and its type.
func countsProjects(mounts, path string) (kind string, ok bool) {
	longest := -1
	for line := range strings.Lines(mounts) {
		before, after, found := strings.Cut(strings.TrimSpace(line), " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if !found || len(head) < 6 || len(tail) < 3 {
			continue
		}
		at := unescape(head[4])
		if !below(path, at) || len(at) < longest {
			continue
		}
		longest, kind = len(at), tail[0]
		options := strings.Split(tail[2], ",")
		ok = slices.Contains(options, "prjquota") || slices.Contains(options, "pquota")
	}
	return kind, ok
}

func below(path, dir string) bool {
	return dir == "/" || path == dir || strings.HasPrefix(path, dir+"/")
}

// unescape reads what mountinfo writes for blanks and backslashes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
