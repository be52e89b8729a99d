// Package images bounds what old images take of a host's disk.
//
// Decide is pure: from what there is, who uses it and how full the disk is, to what may go. Collector looks, decides, and
// removes one image after the other. An image that a container has (running or not), or that a pod on disk or a desired one names,
// never goes; nor does one that was used within Policy.Age, nor, unless told so, one that the agent has not pulled itself.
package images

import (
	"cmp"
	"slices"
	"time"
)

// Policy says when images go.
type Policy struct {
	Above int           // percent of the disk in use at which collecting begins; default 80
	Below int           // percent at which it ends; default 70
	Age   time.Duration // since its last use, before an image may go; default 24 h
	All   bool          // also images that others have pulled or built on this host
}

// Default gives the policy of a host that was told nothing.
func Default() Policy { return Policy{Above: 80, Below: 70, Age: 24 * time.Hour} }

// Disk is the file system that holds images, in bytes.
type Disk struct {
	Size, Used int64
}

// Image is an image on the host, with all references that were recorded for it.
type Image struct {
	ID    string
	Refs  []string // recorded ones, such as registry.example.com/web:1
	Bytes int64    // with layers that it shares with others, so an upper bound of what its removal frees
	Last  time.Time
	InUse bool
}

// Decide gives the images to remove, in the order in which they should go: the longest unused first, until the disk would be
// below the policy's lower bound. Since layers are shared, that may turn out to be too few; the next pass goes on.
func Decide(p Policy, disk Disk, list []Image, now time.Time) []Image {
	if disk.Size <= 0 || disk.Used*100 <= disk.Size*int64(p.Above) {
		return nil
	}
	old := slices.DeleteFunc(slices.Clone(list), func(i Image) bool { return i.InUse || now.Sub(i.Last) < p.Age })
	slices.SortFunc(old, func(a, b Image) int { return cmp.Or(a.Last.Compare(b.Last), cmp.Compare(a.ID, b.ID)) })
	var out []Image
	for _, i := range old {
		if disk.Used*100 <= disk.Size*int64(p.Below) {
			break
		}
		out = append(out, i)
		disk.Used -= i.Bytes
	}
	return out
}
