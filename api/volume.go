package api

import (
	"fmt"
	"slices"
)

// Volume is a directory of the host, shared by the containers of a pod and, unless it is in memory, by the
// service's pods on that host. It is kept when containers and pods end.
type Volume struct {
	Name     Name      `json:"name" doc:"Unique in the pod" example:"data"`
	Class    Name      `json:"class,omitempty" doc:"Kind of storage, as its hosts name theirs; their default when left out" example:"fast"`
	Size     Bytes     `json:"size,omitempty" doc:"Most it may hold, where the host's file system can count that; its host says when it cannot" example:"10Gi"`
	Tmpfs    bool      `json:"tmpfs,omitempty" doc:"In memory, empty at first, gone with the pod; 64Mi when no size is given"`
	OnDelete VolumeEnd `json:"onDelete,omitempty" enum:"keep,delete" doc:"What becomes of it when its service is deleted; keep when left out"`
}

// VolumeEnd says what becomes of a volume when its service is deleted.
type VolumeEnd string

// The ends of a volume.
const (
	VolumeKeep   VolumeEnd = "keep"
	VolumeDelete VolumeEnd = "delete"
)

// Stateful tells whether a pod has volumes that are bound to its host.
func (t *PodTemplate) Stateful() bool {
	for _, v := range t.Volumes {
		if !v.Tmpfs {
			return true
		}
	}
	return false
}

// VolumeClasses gives the classes of a template's volumes but for the default one, each once, sorted.
func (t *PodTemplate) VolumeClasses() []Name {
	var out []Name
	for _, v := range t.Volumes {
		if v.Class != "" {
			out = append(out, v.Class)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (v Volume) validate() error {
	if err := v.Name.Validate(); err != nil {
		return in("name", err)
	}
	if v.Class != "" {
		if err := v.Class.Validate(); err != nil {
			return in("class", err)
		}
	}
	switch {
	case v.OnDelete != "" && v.OnDelete != VolumeKeep && v.OnDelete != VolumeDelete:
		return in("onDelete", fmt.Errorf("%.40q is not known; write keep or delete", v.OnDelete))
	case v.Tmpfs && v.Class != "":
		return fmt.Errorf("is in memory and has class %q; leave one of them out", v.Class)
	case v.Tmpfs && v.OnDelete == VolumeKeep:
		return fmt.Errorf("is in memory and cannot be kept; leave onDelete or tmpfs out")
	}
	return nil
}
