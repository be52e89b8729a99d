package realhost

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/systemd"
	"gearmesh.dev/linker"
	"gearmesh.dev/unitgen"
)

// Explain implements geard.Explainer.
func (h *Host) Explain(ctx context.Context, p api.Pod) (units, rules []api.TextFile, err error) {
	if units, err = unitTexts(p); err != nil {
		return nil, nil, err
	}
	inPod, err := linker.Read(ctx, h.dirs.Namespace(p.Metadata.UID))
	if err != nil {
		return nil, nil, err
	}
	onHost, err := linker.Read(ctx, "")
	if err != nil {
		return nil, nil, err
	}
	n, err := h.dirs.LoadNet(p.Metadata.UID)
	if err != nil {
		return nil, nil, err
	}
	return units, []api.TextFile{
		{Name: "in the pod's namespace", Text: inPod.String()},
		{Name: "on the host, for this pod", Text: linesWith(onHost.String(), n.Address.String())},
	}, nil
}

// LinkStates implements geard.Machine.
func (h *Host) LinkStates(ctx context.Context, uid api.UID, links []api.LinkTarget, drains []linker.Drain) ([]api.LinkState, error) {
	if len(links) == 0 {
		return nil, nil
	}
	return linker.States(ctx, h.dirs.Namespace(uid), links, drains)
}

// unitTexts reads the pod's unit files and the operator's drop-ins, as they are.
func unitTexts(p api.Pod) ([]api.TextFile, error) {
	files, err := unitgen.Render(p)
	if err != nil {
		return nil, err
	}
	var out []api.TextFile
	for _, f := range files {
		path := filepath.Join(systemd.UnitDir, f.Name)
		for _, name := range append([]string{path}, systemd.DropIns(f.Name)[f.Name]...) {
			text, err := os.ReadFile(name)
			if err != nil {
				return nil, fmt.Errorf("reading a unit of pod %q: %w", p.Metadata.Name, err)
			}
			out = append(out, api.TextFile{Name: name, Text: string(text)})
		}
	}
	return out, nil
}

func linesWith(text, word string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		// An address is a whole word: 10.127.0.1 is not in 10.127.0.11.
		for field := range strings.FieldsFuncSeq(line, func(r rune) bool { return strings.ContainsRune(" /:,\n", r) }) {
			if field == word {
				b.WriteString(line)
				break
			}
		}
	}
	return b.String()
}

// Capacity gives what the pods of this machine may use in all: its processors, and its memory less
// a tenth for the system.
func Capacity() (api.Resources, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return api.Resources{}, fmt.Errorf("reading the machine's memory: %w", err)
	}
	defer f.Close()
	var kib int64
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if n, _ := fmt.Sscanf(lines.Text(), "MemTotal: %d kB", &kib); n == 1 {
			break
		}
	}
	if kib == 0 {
		return api.Resources{}, fmt.Errorf("reading the machine's memory: /proc/meminfo has no MemTotal")
	}
	return api.Resources{CPU: api.CPU(1000 * runtime.NumCPU()), Memory: api.Bytes(kib << 10 / 10 * 9)}, nil
}
