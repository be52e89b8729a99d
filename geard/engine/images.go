package engine

import (
	"context"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
)

// HostImage is an image on this host as lists have it.
type HostImage struct {
	ID    string
	Refs  []string // tags, such as registry.example.com/web:1; none for an image without a name
	Bytes int64    // with layers that it shares
}

// Images lists all images on this host but those that are only layers of others.
func (e *Engine) Images(ctx context.Context) ([]HostImage, error) {
	list, err := e.api.ImageList(ctx, image.ListOptions{})
	if err != nil {
		return nil, explain(err, "listing images")
	}
	out := make([]HostImage, 0, len(list))
	for _, i := range list {
		out = append(out, HostImage{ID: i.ID, Refs: i.RepoTags, Bytes: i.Size})
	}
	return out, nil
}

// UsedImages gives the ids of the images of all containers, running or not, ours or not.
func (e *Engine) UsedImages(ctx context.Context) (map[string]bool, error) {
	list, err := e.api.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return nil, explain(err, "listing containers")
	}
	out := map[string]bool{}
	for _, c := range list {
		out[c.ImageID] = true
	}
	return out, nil
}

// RemoveImage takes a reference of an image away, and the image with its last one. One that a container has is refused;
// one that is gone already is no error.
func (e *Engine) RemoveImage(ctx context.Context, ref string) error {
	_, err := e.api.ImageRemove(ctx, ref, image.RemoveOptions{PruneChildren: true})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return explain(err, "removing image %q", ref)
}

// Root gives the directory in which the engine keeps images and containers.
func (e *Engine) Root(ctx context.Context) (string, error) {
	info, err := e.api.Info(ctx)
	return info.DockerRootDir, explain(err, "asking the container engine for its directory")
}
