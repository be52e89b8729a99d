package images

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"gearmesh.dev/geard/engine"
	"gearmesh.dev/internal/loop"
)

// Engine is what a Collector asks of the container engine.
type Engine interface {
	// Images gives all images on the host, without the containers' use of them.
	Images(ctx context.Context) ([]engine.HostImage, error)
	// ImageID resolves a reference; the error is engine.ErrNoImage when there is none.
	ImageID(ctx context.Context, ref string) (string, error)
	// UsedImages gives the ids of the images of all containers, running or not.
	UsedImages(ctx context.Context) (map[string]bool, error)
	// RemoveImage takes a reference away, and with its last one the image. It refuses what a container has.
	RemoveImage(ctx context.Context, ref string) error
	// Root gives the directory that holds images.
	Root(ctx context.Context) (string, error)
}

var _ Engine = (*engine.Engine)(nil)

// Collector removes old images when the disk is full.
type Collector struct {
	Policy Policy
	Engine Engine
	Record *Record
	// Needed gives the references that pods on disk and desired pods name. While it cannot tell, nothing is removed.
	Needed func() ([]string, error)
	// DiskOf measures the file system of a directory; DiskOf of this package but in tests.
	DiskOf func(dir string) (Disk, error)
	Log    *slog.Logger
}

// period is the time between two passes. A pass asks the engine for each recorded image.
const period = 5 * time.Minute

// Run collects until ctx ends.
func (c *Collector) Run(ctx context.Context) error {
	loop.Run(ctx, nil, 0, period, func(ctx context.Context) {
		if _, err := c.Pass(ctx, time.Now()); err != nil && ctx.Err() == nil {
			c.Log.Warn("old images are not looked at", "err", err)
		}
	})
	return nil
}

// Pass notes which images are in use, and removes old ones when the disk is too full. It gives the references that went.
func (c *Collector) Pass(ctx context.Context, now time.Time) ([]string, error) {
	list, err := c.look(ctx, now)
	if err != nil {
		return nil, err
	}
	root, err := c.Engine.Root(ctx)
	if err != nil {
		return nil, err
	}
	disk, err := c.DiskOf(root)
	if err != nil {
		return nil, err
	}
	var gone []string
	for _, i := range Decide(c.Policy, disk, list, now) {
		refs, err := c.remove(ctx, i)
		gone = append(gone, refs...)
		if err != nil {
			c.Log.Warn("an old image stays", "image", i.Refs, "err", err)
			continue
		}
		c.Log.Info("an old image was removed", "image", refs, "bytes", i.Bytes, "unused", now.Sub(i.Last).Round(time.Minute))
	}
	return gone, nil
}

// look gives the recorded images that are on the host, and brings the record up to date.
func (c *Collector) look(ctx context.Context, now time.Time) ([]Image, error) {
	all, err := c.Engine.Images(ctx)
	if err != nil {
		return nil, err
	}
	if c.Policy.All {
		if err := c.adopt(all, now); err != nil {
			return nil, err
		}
	}
	used, err := c.inUse(ctx)
	if err != nil {
		return nil, err
	}
	size := map[string]int64{}
	for _, i := range all {
		size[i.ID] = i.Bytes
	}
	found := map[string]*Image{}
	var missing []string
	for ref, last := range c.Record.All() {
		id, err := c.Engine.ImageID(ctx, ref)
		if errors.Is(err, engine.ErrNoImage) {
			missing = append(missing, ref)
			continue
		}
		if err != nil {
			return nil, err
		}
		if found[id] == nil {
			found[id] = &Image{ID: id, Bytes: size[id], InUse: used[id]}
		}
		i := found[id]
		if i.Refs = append(i.Refs, ref); last.After(i.Last) {
			i.Last = last
		}
	}
	return c.note(found, missing, now)
}

// note writes the uses that were just seen into the record.
func (c *Collector) note(found map[string]*Image, missing []string, now time.Time) ([]Image, error) {
	var list []Image
	err := c.Record.Update(func(record map[string]time.Time) {
		for _, ref := range missing {
			delete(record, ref)
		}
		for _, i := range found {
			slices.Sort(i.Refs)
			if i.InUse {
				i.Last = now.UTC().Truncate(time.Second)
				for _, ref := range i.Refs {
					record[ref] = i.Last
				}
			}
			list = append(list, *i)
		}
	})
	return list, err
}

// adopt records images that others have brought here, as used now.
func (c *Collector) adopt(all []engine.HostImage, now time.Time) error {
	return c.Record.Update(func(record map[string]time.Time) {
		for _, i := range all {
			refs := i.Refs
			if len(refs) == 0 {
				refs = []string{i.ID}
			}
			for _, ref := range refs {
				if _, ok := record[ref]; !ok {
					record[ref] = now.UTC().Truncate(time.Second)
				}
			}
		}
	})
}

// inUse gives the ids of images that must stay.
func (c *Collector) inUse(ctx context.Context) (map[string]bool, error) {
	used, err := c.Engine.UsedImages(ctx)
	if err != nil {
		return nil, err
	}
	needed, err := c.Needed()
	if err != nil {
		return nil, fmt.Errorf("which images pods need is not known: %w", err)
	}
	for _, ref := range needed {
		id, err := c.Engine.ImageID(ctx, ref)
		if errors.Is(err, engine.ErrNoImage) {
			continue
		}
		if err != nil {
			return nil, err
		}
		used[id] = true
	}
	return used, nil
}

// remove takes an image away, unless a pod has come to need it meanwhile.
func (c *Collector) remove(ctx context.Context, i Image) (gone []string, err error) {
	used, err := c.inUse(ctx)
	if err != nil || used[i.ID] {
		return nil, err
	}
	for _, ref := range i.Refs {
		if err := c.Engine.RemoveImage(ctx, ref); err != nil {
			return gone, err
		}
		gone = append(gone, ref)
	}
	return gone, c.Record.Update(func(record map[string]time.Time) {
		for _, ref := range gone {
			delete(record, ref)
		}
	})
}

// DiskOf measures the file system that holds a directory. What is kept for root alone counts as used.
func DiskOf(dir string) (Disk, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Disk{}, fmt.Errorf("measuring the disk of %q: %w", dir, err)
	}
	size := int64(st.Blocks) * st.Bsize
	return Disk{Size: size, Used: size - int64(st.Bavail)*st.Bsize}, nil
}
