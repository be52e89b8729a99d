package api

import (
	"cmp"
	"time"
)

// Project is the unit of visibility and control: services, pods and aliases belong to one.
type Project struct {
	Header
	Spec ProjectSpec `json:"spec,omitzero"`
}

// ProjectSpec is what people say of a project.
type ProjectSpec struct {
	Description string `json:"description,omitempty" doc:"For people" maxLength:"1024"`
	Policy      Policy `json:"policy,omitempty" enum:"restricted,baseline,privileged" doc:"What the project's containers may have of their hosts; restricted when left out"`

	MaxPriority int `json:"maxPriority,omitempty" doc:"Highest placement.priority that the project's services may have, since it lets them take the room of other projects' pods; 0 when left out" minimum:"-1000" maximum:"1000"`

	LinkServices bool    `json:"linkServices,omitempty" doc:"Every pod of the project reaches every service of it by name, without saying so under links"`
	Egress       *Egress `json:"egress,omitempty" doc:"What the project's pods may connect to outside of the mesh; everything when left out"`

	Registries []Registry `json:"registries,omitempty" doc:"Registries that want a name and a password; taken by pods that are made from then on" maxItems:"32"`
}

// Service is a pod template, a number of replicas, and where and under which names they run.
type Service struct {
	Header
	Spec   ServiceSpec   `json:"spec"`
	Status ServiceStatus `json:"status,omitzero"`
}

// ServiceSpec is what people want of a service.
type ServiceSpec struct {
	Replicas  *int        `json:"replicas,omitempty" doc:"Pods that should run; 1 when left out" minimum:"0" maximum:"10000"`
	Global    bool        `json:"global,omitempty" doc:"One pod on each host that fits, instead of replicas; follows hosts that join and leave"`
	Singleton bool        `json:"singleton,omitempty" doc:"One pod that never runs twice at a time, and yet is started elsewhere when its host is lost"`
	Identity  PodIdentity `json:"identity,omitempty" enum:"ordered,parallel" doc:"Gives each pod a name, a number (GEAR_ORDINAL) and volumes of its own that outlast it: SERVICE-0, SERVICE-1 and so on, never two of one. ordered starts each when all before it are ready; parallel all at once"`
	MinReady  int         `json:"minReady,omitempty" doc:"Ready pods that pods of higher priority leave to it; none when left out" minimum:"0" maximum:"10000"`
	Placement Placement   `json:"placement,omitzero" doc:"Which hosts the pods may run on"`
	Aliases   []Hostname  `json:"aliases,omitempty" doc:"Host names that the routers send to the service's first port" maxItems:"100"`
	Offers    []Name      `json:"offers,omitempty" doc:"Projects whose services may link to this one" maxItems:"256"`
	PodTemplate
}

// PodTemplate is what a service's pods are made from; a Pod carries a copy.
type PodTemplate struct {
	InitContainers []Container `json:"initContainers,omitempty" doc:"Run one after the other, each to success, before the containers start" maxItems:"16"`
	ShareProcesses bool        `json:"shareProcesses,omitempty" doc:"All containers of the pod see each other's processes"`

	Containers []Container       `json:"containers" doc:"The pod's containers; they share network and volumes" minItems:"1" maxItems:"16"`
	Volumes    []Volume          `json:"volumes,omitempty" doc:"Directories that the containers share" maxItems:"32"`
	Env        map[string]string `json:"env,omitempty" doc:"Environment of every container of the pod; a container's own wins"`
	Links      []Link            `json:"links,omitempty" doc:"Services that the pod reaches on localhost" maxItems:"64"`
	Ports      []Port            `json:"ports,omitempty" doc:"Ports that the pod serves; each gets a port of the host" maxItems:"64"`
	Weight     int               `json:"weight,omitempty" doc:"Share of the connections that a pod gets over links with balance weighted; 100 when left out" minimum:"1" maximum:"1000"`
	Egress     *Egress           `json:"egress,omitempty" doc:"What the pod may connect to outside of the mesh; what the project says when left out"`
	Restarted  time.Time         `json:"restarted,omitzero" doc:"When all pods were last asked to be replaced; gear rollout restart sets it, and it stays when left out"`
	PodOptions
}

// Container is one process tree from one image.
type Container struct {
	Name       Name              `json:"name,omitempty" doc:"Unique in the pod; \"main\" when left out" example:"main"`
	Native     *Native           `json:"native,omitempty" doc:"Makes it a program of the host, without an image"`
	Image      string            `json:"image,omitempty" doc:"Image reference, needed unless it is native: [registry/]repository[:tag|@digest]" maxLength:"512" example:"registry.example.com/shop/web:1"`
	Command    []string          `json:"command,omitempty" doc:"Replaces the image's entrypoint"`
	Args       []string          `json:"args,omitempty" doc:"Replaces the image's command"`
	Env        map[string]string `json:"env,omitempty" doc:"Environment of this container"`
	User       string            `json:"user,omitempty" doc:"User or user:group, by name or number" maxLength:"128"`
	WorkDir    string            `json:"workDir,omitempty" doc:"Absolute path of the working directory" maxLength:"4096"`
	Mounts     []Mount           `json:"mounts,omitempty" doc:"Where the pod's volumes appear in this container" maxItems:"32"`
	Resources  Resources         `json:"resources,omitzero" doc:"What the container needs and may use at most"`
	After      []Name            `json:"after,omitempty" doc:"Containers of the pod that are ready before this one starts" maxItems:"15"`
	Startup    *Check            `json:"startup,omitempty" doc:"Tells when the container has started; until then it is asked nothing else, and for too long it is started anew"`
	Ready      *Check            `json:"ready,omitempty" doc:"Tells when the container can serve; without it, as soon as it runs"`
	Live       *Check            `json:"live,omitempty" doc:"Tells whether the container still works; one that does not is started anew"`
	StopSignal string            `json:"stopSignal,omitempty" doc:"Signal that asks the container to end; the image's, else SIGTERM" pattern:"^SIG[A-Z0-9+-]{2,12}$"`
	StopGrace  Duration          `json:"stopGrace,omitempty" doc:"Time between the stop signal and SIGKILL; 10s when left out"`
	SecretUse
	ContainerOptions
}

// Resources is what the scheduler sets aside for a container and what the kernel holds it to.
type Resources struct {
	CPU    CPU   `json:"cpu,omitempty" doc:"Processors, such as 500m or 2" example:"500m"`
	Memory Bytes `json:"memory,omitempty" doc:"Memory, such as 256Mi" example:"256Mi"`
}

// Check is how a container is asked how it is: exactly one of TCP, HTTP, GRPC and Command.
type Check struct {
	TCP      *TCPCheck  `json:"tcp,omitempty" doc:"Passes when the port accepts a connection"`
	HTTP     *HTTPCheck `json:"http,omitempty" doc:"Passes when GET answers 200 to 399"`
	GRPC     *GRPCCheck `json:"grpc,omitempty" doc:"Passes when grpc.health.v1.Health/Check answers SERVING"`
	Command  []string   `json:"command,omitempty" doc:"Run in the container; passes on exit status 0"`
	Interval Duration   `json:"interval,omitempty" doc:"Time between two checks; 2s when left out"`
	Timeout  Duration   `json:"timeout,omitempty" doc:"A check that takes longer fails; 2s when left out"`
	Delay    Duration   `json:"delay,omitempty" doc:"Time from the start to the first check"`
	Failures int        `json:"failures,omitempty" doc:"Failures in a row that count; when left out, 2 of ready, 3 of live, 30 of startup" minimum:"0" maximum:"1000"`
}

// TCPCheck names a port of the pod.
type TCPCheck struct {
	Port uint16 `json:"port" doc:"Of the pod" minimum:"1" maximum:"65535"`
}

// HTTPCheck names a port and path of the pod.
type HTTPCheck struct {
	Port uint16 `json:"port" doc:"Of the pod" minimum:"1" maximum:"65535"`
	Path string `json:"path,omitempty" doc:"/ when left out" maxLength:"1024"`
}

// Mount puts a volume into a container.
type Mount struct {
	Volume   Name   `json:"volume" doc:"Name of one of the pod's volumes"`
	Path     string `json:"path" doc:"Absolute path in the container" maxLength:"4096"`
	ReadOnly bool   `json:"readOnly,omitempty" doc:"The container cannot change it"`
}

// Protocol is a transport protocol.
type Protocol string

// The protocols of ports and links.
const (
	TCP Protocol = "tcp"
	UDP Protocol = "udp"
)

// Port is a port that the pod's processes listen on.
type Port struct {
	Name     Name     `json:"name,omitempty" doc:"Unique in the service; \"main\" when left out" example:"http"`
	Port     uint16   `json:"port" doc:"What the container listens on" minimum:"1" maximum:"65535" example:"8080"`
	Protocol Protocol `json:"protocol,omitempty" enum:"tcp,udp" doc:"tcp when left out"`
	Public   bool     `json:"public,omitempty" doc:"Accept connections from anywhere, not from hosts of the mesh alone"`
}

// Placement is which hosts a service's pods may run on, and which of them are best. A change moves no pod that runs, but
// for one of Require, unless Rebalance is set.
type Placement struct {
	Require    []Requirement `json:"require,omitempty" doc:"All must hold of the host" maxItems:"32"`
	Spread     string        `json:"spread,omitempty" doc:"Host label whose values the pods are spread over; \"host\" when left out" maxLength:"63"`
	MaxSkew    int           `json:"maxSkew,omitempty" doc:"How many pods more than the emptiest any value of the spread label may have; without bound when left out" minimum:"1" maximum:"10000"`
	MaxPerHost int           `json:"maxPerHost,omitempty" doc:"Most pods of the service on one host; without bound when left out" minimum:"1" maximum:"10000"`
	Near       []Neighbour   `json:"near,omitempty" doc:"Services of the project of which a pod must be near" maxItems:"32"`
	Apart      []Neighbour   `json:"apart,omitempty" doc:"Services of the project of which no pod may be near; holds both ways" maxItems:"32"`
	Pack       bool          `json:"pack,omitempty" doc:"Take the fullest host that fits, not the emptiest"`
	Rebalance  bool          `json:"rebalance,omitempty" doc:"Pods that run move to hosts where they are better off, one at a time and not more often than once a minute; the new one is ready before the old one ends"`
	Priority   int           `json:"priority,omitempty" doc:"Pods that fit nowhere get the room of pods of lower priority, which end; -1000 to 1000, 0 when left out" minimum:"-1000" maximum:"1000"`
}

// Neighbour is a service whose pods others are to be near to, or apart from.
type Neighbour struct {
	Service Name   `json:"service" doc:"Of the same project; may be the service itself" example:"db"`
	Within  string `json:"within,omitempty" doc:"Hosts with the same value of this label are near to each other; \"host\", a host to itself alone, when left out" maxLength:"63" example:"zone"`
	Prefer  bool   `json:"prefer,omitempty" doc:"It is better so, but may be otherwise"`
}

// Label gives the label by which hosts are near.
func (n Neighbour) Label() string { return cmp.Or(n.Within, HostLabel) }

// Requirement holds of a host when the value of its label is one of In (when given) and none of
// NotIn. The label "host" is the host's name; a label that a host lacks has the value "".
type Requirement struct {
	Label string   `json:"label" doc:"Label of the host" maxLength:"63" example:"zone"`
	In    []string `json:"in,omitempty" doc:"Its value is one of these"`
	NotIn []string `json:"notIn,omitempty" doc:"Its value is none of these, or it has none"`
}

// ServiceStatus is what runs of a service.
type ServiceStatus struct {
	Wanted  int    `json:"wanted,omitempty" doc:"Pods that a global service should have: one for each host that fits"`
	Pods    int    `json:"pods" doc:"Pods that exist and are not being deleted"`
	Ready   int    `json:"ready" doc:"Pods that are ready"`
	Reason  Reason `json:"reason,omitempty" doc:"Why the service is not as wanted"`
	Message string `json:"message,omitempty" doc:"The same for people, with the next step"`
}

// Alias is a host name that the routers send to a port of a service. The oldest claim of a host
// name owns it; the status of a later one says so.
type Alias struct {
	Header
	Spec   AliasSpec   `json:"spec"`
	Status AliasStatus `json:"status,omitzero"`
}

// AliasSpec is what an alias stands for.
type AliasSpec struct {
	Host    Hostname `json:"host" doc:"Host name that clients ask for" example:"shop.example.com"`
	Service Name     `json:"service" doc:"Service of the alias's project"`
	Port    Name     `json:"port,omitempty" doc:"Name of the service's port; its first when left out"`
}

// AliasStatus says whether the alias is in force.
type AliasStatus struct {
	Active  bool   `json:"active"`
	Reason  Reason `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}
