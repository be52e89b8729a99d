package podstate

import (
	"maps"
	"net/netip"
	"strconv"
	"strings"

	"gearmesh.dev/api"
)

// Environ gives the variables of a container of the pod, but for its secrets: those of its links, over them the pod's
// own, over those the container's own, over all what only the master knows: who the pod is, and its fencing token.
func Environ(p api.Pod, c api.Container) map[string]string {
	env := linkEnv(p)
	env[LinksVariable] = LinksMount + "/" + linksSocket
	maps.Copy(env, p.Spec.Template.Env)
	maps.Copy(env, c.Env)
	if n := p.Spec.Ordinal; n != nil {
		env[PodVariable], env[OrdinalVariable] = string(p.HeldName()), strconv.Itoa(*n)
	}
	if p.Singleton() {
		env[FencingToken] = strconv.FormatInt(p.Spec.Fence, 10)
	}
	return env
}

// FencingToken is the variable that gives a singleton its fencing token. The same is in /etc/gear-fencing-token, for what
// does not pass its environment on.
const FencingToken = "GEAR_FENCING_TOKEN"

// The variables that tell a pod of a service with identity its name and its number.
const (
	PodVariable     = "GEAR_POD"
	OrdinalVariable = "GEAR_ORDINAL"
)

// linkEnv says where the links that the pod's template names are: DB_HOST, DB_PORT and DB_ADDR. It depends on the
// template alone, so that a container has the same variables at every start; links that a project gives come and go.
func linkEnv(p api.Pod) map[string]string {
	env := map[string]string{}
	for _, l := range (api.Directory{}).Resolver("").Targets(p.Metadata.Project, p.Metadata.Name, p.Spec.Template.Links) {
		export(env, variable(l.Called()), l)
		export(env, variable(l.Called())+"_"+strconv.Itoa(int(l.Port)), l)
	}
	return env
}

// export adds a link's variables, all or none: where two have one name the first stands, as in the hosts file.
func export(env map[string]string, name string, l api.LinkTarget) {
	if _, taken := env[name+"_ADDR"]; taken {
		return
	}
	at := netip.AddrPortFrom(l.Local, l.Port)
	if l.Localhost {
		at = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), l.Port)
	}
	env[name+"_HOST"] = at.Addr().String()
	env[name+"_PORT"] = strconv.Itoa(int(at.Port()))
	env[name+"_ADDR"] = at.String()
}

// variable gives the start of a service's variables. Shells take no variable that starts with a digit.
func variable(service api.Name) string {
	s := strings.ToUpper(strings.ReplaceAll(string(service), "-", "_"))
	if s[0] >= '0' && s[0] <= '9' {
		return "_" + s
	}
	return s
}
