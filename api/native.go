package api

import (
	"reflect"
	"slices"
	"strings"
)

// Native makes a container of a pod a plain program of the host: a systemd service in the pod's
// network and slice, with links and limits as containers have them, and without an image. It sees the host's
// files read-only, has a /tmp of its own, and no privileges.
type Native struct {
	Command []string `json:"command" doc:"Absolute path of a program of the host, and its arguments" minItems:"1" maxItems:"256" example:"[\"/usr/sbin/haproxy\", \"-W\"]"`
	User    string   `json:"user,omitempty" doc:"User of the host that it runs as; one that is made for it when left out" pattern:"^[a-z_][a-z0-9_-]{0,30}$"`
}

// userName is what systemd takes for a user in any mode (systemd.exec(5), User=).
var userName = newPattern(`^[a-z_][a-z0-9_-]{0,30}$`)

// native checks a container that is a program of the host.
func (f *faults) native(at string, c *Container) {
	n := c.Native
	if len(n.Command) == 0 {
		f.addf(at+".native.command", "is empty; write the absolute path of a program, then its arguments")
	} else {
		f.add(at+".native.command[0]", absolutePath(n.Command[0]))
	}
	f.arguments(at+".native.command", n.Command)
	if n.User != "" && !userName.MatchString(n.User) {
		f.addf(at+".native.user", "%.40q is no user name; write 1 to 31 of a-z, 0-9, _ and -, starting with a letter or _", n.User)
	}
	f.onlyNative(at, reflect.ValueOf(*c))
	for name, k := range map[string]*Check{"startup": c.Startup, "ready": c.Ready} {
		if k != nil && len(k.Command) > 0 {
			f.addf(at+"."+name+".command", "a native container is asked by tcp, http or grpc")
		}
	}
}

// onlyNative refuses everything that the container engine would have to do.
func (f *faults) onlyNative(at string, c reflect.Value) {
	may := []string{"Name", "Native", "Env", "Resources", "After", "Startup", "Ready", "StopSignal", "StopGrace"}
	for i := range c.NumField() {
		field := c.Type().Field(i)
		if slices.Contains(may, field.Name) || c.Field(i).IsZero() {
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" {
			f.addf(at, "has options of the container engine, which runs no native container; leave them out")
			continue
		}
		f.addf(at+"."+name, "belongs to a container with an image; a native one has native.command and native.user")
	}
}
