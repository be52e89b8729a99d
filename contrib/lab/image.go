package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"gearmesh.dev/internal/hostexec"
)

//go:embed build-image.sh
var buildImage string

// Image says what to put into the lab's registry. Its files come from exactly
// one of Binary, Dir, Tar and Packages. The same Image has the same digest
// each time, as long as its files are the same.
type Image struct {
	// Name is repository and tag, for example "guestbook/web:1".
	Name string

	Binary   string   // a static program; becomes /NAME, and the entrypoint if none is given
	Dir      string   // a directory that becomes /; owned by root
	Tar      string   // an uncompressed tar that becomes /
	Packages []string // Debian packages, for example "redis-server"; built once, then cached

	Entrypoint []string
	Cmd        []string
	Env        []string          // KEY=value
	Labels     map[string]string // key: value
	Ports      []string          // exposed, for example "6379/tcp"
	Volumes    []string          // mount points, for example "/data"
	User       string
	WorkDir    string
}

var (
	imageName = regexp.MustCompile(`^[a-z0-9]+([._-][a-z0-9]+)*(/[a-z0-9]+([._-][a-z0-9]+)*)*:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	imagePort = regexp.MustCompile(`^[1-9][0-9]{0,4}/(tcp|udp|sctp)$`)
)

func (i Image) validate() error {
	var errs []error
	if !imageName.MatchString(i.Name) {
		errs = append(errs, fmt.Errorf("image name %q: want repository and tag, like \"guestbook/web:1\"", i.Name))
	}
	sources := 0
	for _, given := range []bool{i.Binary != "", i.Dir != "", i.Tar != "", len(i.Packages) > 0} {
		if given {
			sources++
		}
	}
	if sources != 1 {
		errs = append(errs, fmt.Errorf("image %q: want its files from exactly one of binary, directory, tar and packages; %d are given", i.Name, sources))
	}
	for _, p := range i.Packages {
		errs = append(errs, validPackage(p))
	}
	for _, p := range i.Ports {
		if !imagePort.MatchString(p) {
			errs = append(errs, fmt.Errorf("image %q: exposed port %q: want one like \"6379/tcp\"", i.Name, p))
		}
	}
	return errors.Join(errs...)
}

// Load builds an image without any docker, pushes it to the lab's registry and
// returns the reference by which hosts pull it: "10.99.0.1:5000/guestbook/web:1".
func (l *Lab) Load(ctx context.Context, i Image) (string, error) {
	if err := i.validate(); err != nil {
		return "", err
	}
	registry, _, err := l.Addresses()
	if err != nil {
		return "", err
	}
	start := time.Now()
	ref, err := name.ParseReference(registry.String()+"/"+i.Name, name.Insecure)
	if err != nil {
		return "", fmt.Errorf("image %q: %w", i.Name, err)
	}
	image, err := l.build(ctx, i)
	if err != nil {
		return "", fmt.Errorf("building image %q: %w", i.Name, err)
	}
	// The registry is on this machine: a proxy from the environment is of no use.
	transport := &http.Transport{ResponseHeaderTimeout: time.Minute}
	defer transport.CloseIdleConnections()
	if err := remote.Write(ref, image, remote.WithContext(ctx), remote.WithTransport(transport)); err != nil {
		return "", fmt.Errorf("pushing image %q to the lab's registry: %w", i.Name, err)
	}
	l.say("", "loaded "+ref.String(), start)
	return ref.String(), nil
}

func (l *Lab) build(ctx context.Context, i Image) (v1.Image, error) {
	layer, err := l.layer(ctx, i)
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Config = i.config()
	return mutate.ConfigFile(image, file)
}

// config is the image's runtime configuration.
func (i Image) config() v1.Config {
	c := v1.Config{
		Entrypoint: i.Entrypoint, Cmd: i.Cmd, Labels: i.Labels, User: i.User, WorkingDir: i.WorkDir,
		Env: append([]string{"PATH=" + hostexec.Path}, i.Env...),
	}
	if c.Entrypoint == nil && i.Binary != "" {
		c.Entrypoint = []string{"/" + filepath.Base(i.Binary)}
	}
	if len(i.Ports) > 0 {
		c.ExposedPorts = map[string]struct{}{}
	}
	for _, p := range i.Ports {
		c.ExposedPorts[p] = struct{}{}
	}
	if len(i.Volumes) > 0 {
		c.Volumes = map[string]struct{}{}
	}
	for _, v := range i.Volumes {
		c.Volumes[v] = struct{}{}
	}
	return c
}

// layer packs the image's files. Fast compression: the way to the registry is
// short, and two cores are few.
func (l *Lab) layer(ctx context.Context, i Image) (v1.Layer, error) {
	open := func() (io.ReadCloser, error) { return os.Open(i.Tar) }
	switch {
	case i.Binary != "":
		text, err := binaryTar(i.Binary)
		if err != nil {
			return nil, err
		}
		open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
	case i.Dir != "":
		text, err := dirTar(i.Dir)
		if err != nil {
			return nil, err
		}
		open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
	case len(i.Packages) > 0:
		file, err := l.packagesTar(ctx, i.Packages)
		if err != nil {
			return nil, err
		}
		open = func() (io.ReadCloser, error) { return os.Open(file) }
	}
	return tarball.LayerFromOpener(open, tarball.WithCompressionLevel(1))
}

// binaryTar is a root with one program and a /tmp.
func binaryTar(file string) ([]byte, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err = errors.Join(
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}),
		w.WriteHeader(&tar.Header{Name: filepath.Base(file), Mode: 0o755, Size: int64(len(content))}))
	if err != nil {
		return nil, err
	}
	_, err = w.Write(content)
	return b.Bytes(), errors.Join(err, w.Close())
}

// dirTar packs a directory, without times and owners so that its digest
// depends on the files only. What is no file, directory or link is refused.
func dirTar(dir string) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		return nil, fmt.Errorf("packing %q: %w", dir, err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("packing %q: %w", dir, err)
	}
	return plainTar(&b)
}

// plainTar copies a tar and drops times and owners.
func plainTar(r io.Reader) ([]byte, error) {
	var b bytes.Buffer
	in, w := tar.NewReader(r), tar.NewWriter(&b)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return b.Bytes(), w.Close()
		}
		if err != nil {
			return nil, err
		}
		err = w.WriteHeader(&tar.Header{Typeflag: h.Typeflag, Name: h.Name, Linkname: h.Linkname, Mode: h.Mode, Size: h.Size})
		if err != nil {
			return nil, err
		}
		if _, err := io.Copy(w, in); err != nil {
			return nil, err
		}
	}
}

// packagesTar returns a tar with a small Debian and packages in it, from the
// cache or from mmdebstrap.
func (l *Lab) packagesTar(ctx context.Context, packages []string) (string, error) {
	packages = slices.Compact(slices.Sorted(slices.Values(packages)))
	list := strings.Join(packages, ",")
	sum := sha256.Sum256([]byte(buildImage + "\n" + l.cfg.Suite + "\n" + list))
	target := filepath.Join(l.cfg.CacheDir, fmt.Sprintf("image-%x.tar", sum[:8]))
	if exists(target) {
		return target, nil
	}
	if err := os.MkdirAll(l.cfg.CacheDir, 0o755); err != nil {
		return "", fmt.Errorf("making the cache: %w", err)
	}
	start := time.Now()
	l.say("", "building an image of "+list+", once", start)
	argv := []string{"flock", filepath.Join(l.cfg.CacheDir, "build.lock"), "sh", "-c", buildImage, "build-image",
		target, l.cfg.Suite, list}
	if _, err := hostexec.Run(ctx, hostexec.Cmd{Argv: append(argv, l.cfg.AptSources...)}); err != nil {
		return "", fmt.Errorf("installing %s: %w", list, shorten(err))
	}
	return target, nil
}
