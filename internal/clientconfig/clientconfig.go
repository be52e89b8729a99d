// Package clientconfig is the file in which the gear client remembers clusters: one context each,
// with the server, the CA that vouches for it, and the person's token. It is a secret, mode 0600.
package clientconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/atomicfile"
)

// Context is one cluster as one person sees it.
type Context struct {
	Name   string `json:"name"`   // people's name for it, such as "prod"
	Server string `json:"server"` // URL of the API: "https://10.0.0.1:7443"
	// Servers are further masters, asked in this order when one does not answer (gear master list --save).
	Servers []string `json:"servers,omitempty"`
	CA      string   `json:"ca"`    // PEM of the cluster's CA; the only one trusted
	Token   string   `json:"token"` // sent as "Authorization: Bearer TOKEN"
}

// File is the whole configuration.
type File struct {
	Current  string    `json:"current"` // name of the context used when none is named
	Contexts []Context `json:"contexts"`
}

// Path gives where the file is: $GEAR_CONFIG, else gear/config.json below $XDG_CONFIG_HOME or
// ~/.config.
func Path() (string, error) {
	if p := os.Getenv("GEAR_CONFIG"); p != "" {
		return p, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("finding the client's configuration: %w; set GEAR_CONFIG", err)
	}
	return filepath.Join(dir, "gear", "config.json"), nil
}

// Load reads the file. One that does not exist is empty.
func Load(path string) (File, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return File{}, nil
	}
	if err != nil {
		return File{}, fmt.Errorf("reading the client's configuration: %w", err)
	}
	var f File
	if err := api.Decode(data, &f); err != nil {
		return File{}, fmt.Errorf("reading the client's configuration %q: %w", path, err)
	}
	return f, nil
}

// Save writes the file for its owner alone.
func (f File) Save(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("writing the client's configuration: %w", err)
	}
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the client's configuration %q: %w", path, err)
	}
	return atomicfile.Write(path, append(data, '\n'), 0o600)
}

// Set gives the file with a context added or replaced and made current.
func (f File) Set(c Context) File {
	out := File{Current: c.Name, Contexts: slices.Clone(f.Contexts)}
	if i := slices.IndexFunc(out.Contexts, func(o Context) bool { return o.Name == c.Name }); i >= 0 {
		out.Contexts[i] = c
	} else {
		out.Contexts = append(out.Contexts, c)
	}
	return out
}

// Use gives the file with another context as the current one.
func (f File) Use(name string) (File, error) {
	if _, err := f.Context(name); err != nil {
		return f, err
	}
	f.Current = name
	return f, nil
}

// Merge gives the file with all contexts of another one too. A name that is in both is an error, unless it means the same.
func (f File) Merge(more File) (File, error) {
	out := File{Current: f.Current, Contexts: slices.Clone(f.Contexts)}
	for _, c := range more.Contexts {
		if c.Name == "" || c.Server == "" {
			return f, errors.New("a context without a name or a server cannot be taken over")
		}
		i := slices.IndexFunc(out.Contexts, func(o Context) bool { return o.Name == c.Name })
		switch {
		case i < 0:
			out.Contexts = append(out.Contexts, c)
		case !reflect.DeepEqual(out.Contexts[i], c):
			return f, fmt.Errorf("there is a context %q already, and it is another one; give this one another name", c.Name)
		}
	}
	if out.Current == "" && len(out.Contexts) > 0 {
		out.Current = out.Contexts[0].Name
	}
	return out, nil
}

// Remove gives the file without a context. Without the current one there is no current one.
func (f File) Remove(name string) (File, error) {
	if _, err := f.Context(name); err != nil {
		return f, err
	}
	out := File{Current: f.Current, Contexts: slices.DeleteFunc(slices.Clone(f.Contexts), func(c Context) bool { return c.Name == name })}
	if out.Current == name {
		out.Current = ""
	}
	return out, nil
}

// Context finds a context; the empty name means the current one.
func (f File) Context(name string) (Context, error) {
	if len(f.Contexts) == 0 {
		return Context{}, errors.New("no cluster is known; run gear up on its first host, or copy that host's ~/.config/gear/config.json here")
	}
	if name == "" {
		if name = f.Current; name == "" {
			return Context{}, errors.New("none of the known clusters is the current one; gear context use NAME makes one so")
		}
	}
	names := make([]string, len(f.Contexts))
	for i, c := range f.Contexts {
		if c.Name == name {
			return c, nil
		}
		names[i] = c.Name
	}
	return Context{}, fmt.Errorf("there is no context %q; known are %s", name, strings.Join(names, ", "))
}
