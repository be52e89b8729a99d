package api

import "time"

// Version is the version of this vocabulary. Manifests may leave it out.
const Version = "v1"

// Kind names a type of resource.
type Kind string

// The kinds of resources.
const (
	KindProject Kind = "Project"
	KindService Kind = "Service"
	KindPod     Kind = "Pod"
	KindHost    Kind = "Host"
	KindAlias   Kind = "Alias"
	KindSecret  Kind = "Secret"
)

// Kinds lists every kind in the order in which resources depend on each other.
func Kinds() []Kind {
	return []Kind{KindProject, KindHost, KindSecret, KindService, KindAlias, KindPod}
}

// Header opens every resource.
type Header struct {
	Kind     Kind     `json:"kind" enum:"Project,Service,Pod,Host,Alias,Secret" doc:"What the resource is"`
	Version  string   `json:"version,omitempty" enum:"v1" doc:"Version of the resource's shape; v1 when left out"`
	Metadata Metadata `json:"metadata" doc:"Name, owner and identity of the resource"`
}

// Metadata is what every resource carries besides its spec.
type Metadata struct {
	Name       Name              `json:"name" doc:"Unique among the resources of its kind and project" example:"web"`
	Project    Name              `json:"project,omitempty" doc:"Project that owns the resource; empty for projects and hosts" example:"shop"`
	Labels     map[string]string `json:"labels,omitempty" doc:"Free key/value pairs; hosts are chosen by theirs"`
	UID        UID               `json:"uid,omitempty" doc:"Set by the master; names this resource for ever"`
	Revision   int64             `json:"revision,omitempty" doc:"Set by the master: the store's revision at the last change; send it back to replace exactly what was read"`
	Generation int64             `json:"generation,omitempty" doc:"Set by the master: counts the changes of a service's spec, from 1"`
	Created    time.Time         `json:"created,omitzero" doc:"Set by the master"`
	Deleting   bool              `json:"deleting,omitempty" doc:"Set by the master: deletion was asked for and is being carried out"`
}

// Key names a resource within the cluster.
type Key struct {
	Kind    Kind
	Project Name // empty for projects and hosts
	Name    Name
}

// String gives the key as people write it: "service shop/web" or "host h1".
func (k Key) String() string {
	s := lowerKind(k.Kind) + " "
	if k.Project != "" {
		s += string(k.Project) + "/"
	}
	return s + string(k.Name)
}

// Resource is any of *Project, *Service, *Pod, *Host, *Alias, *Secret.
type Resource interface {
	// Head gives the resource's header, to read and to change.
	Head() *Header
	// Default fills in what was left out of the spec.
	Default()
	// Validate gives every fault of what people wrote, nil for none.
	Validate() []Fault
}

// Head implements Resource.
func (h *Header) Head() *Header { return h }

// Key gives the resource's key.
func (h *Header) Key() Key {
	return Key{Kind: h.Kind, Project: h.Metadata.Project, Name: h.Metadata.Name}
}

// New gives an empty resource of a kind, or nil for an unknown kind.
func New(k Kind) Resource {
	h := Header{Kind: k, Version: Version}
	switch k {
	case KindProject:
		return &Project{Header: h}
	case KindService:
		return &Service{Header: h}
	case KindPod:
		return &Pod{Header: h}
	case KindHost:
		return &Host{Header: h}
	case KindAlias:
		return &Alias{Header: h}
	case KindSecret:
		return &Secret{Header: h}
	}
	return nil
}

// InProject tells whether resources of the kind belong to a project.
func (k Kind) InProject() bool {
	return k == KindService || k == KindPod || k == KindAlias || k == KindSecret
}

// lowerKind gives the kind as it stands in sentences and paths.
func lowerKind(k Kind) string {
	b := []byte(k)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// ServiceLabel names, on an alias, the service whose spec.aliases it was made for. Aliases that people made lack it.
const ServiceLabel = "dev.gearmesh/service"
