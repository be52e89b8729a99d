package api

import (
	"fmt"
	"strings"
)

// Secret is a set of named values that containers of its project may have. The master keeps them
// sealed and never gives them back: who reads a secret sees the names of its values and their hashes.
type Secret struct {
	Header
	Spec SecretSpec `json:"spec"`
}

// SecretSpec is what people write into a secret, or what they see of it.
type SecretSpec struct {
	Data   map[string][]byte `json:"data,omitempty" doc:"Values by name, in base64; never given back"`
	Text   map[string]string `json:"text,omitempty" doc:"Values by name, as text; never given back"`
	Hashes map[string]string `json:"hashes,omitempty" doc:"Set by the master: a hash of each value, which says only whether it has changed"`
}

// MaxSecret is how many bytes the values of a secret may have together.
const MaxSecret = 512 << 10

// Values gives the values of a secret that was just written, from Data and Text.
func (s *SecretSpec) Values() map[string][]byte {
	out := make(map[string][]byte, len(s.Data)+len(s.Text))
	for k, v := range s.Data {
		out[k] = v
	}
	for k, v := range s.Text {
		out[k] = []byte(v)
	}
	return out
}

// Default implements Resource.
func (s *Secret) Default() { s.defaultVersion() }

// Validate implements Resource.
func (s *Secret) Validate() []Fault {
	var f faults
	f.head(&s.Header)
	values := s.Spec.Values()
	size := 0
	for k, v := range values {
		if !secretKey.MatchString(k) {
			f.addf("spec.data and spec.text", "%.80q is no name for a value; write letters, digits, inner . _ and -", k)
		}
		size += len(v)
	}
	switch {
	case len(values) == 0:
		f.addf("spec", "has no values; give some under data (base64) or text. A secret that was read cannot be written back: its values are not in it")
	case len(values) != len(s.Spec.Data)+len(s.Spec.Text):
		f.addf("spec.text", "a name stands in data as well; give each value once")
	case size > MaxSecret:
		f.addf("spec", "the values have %d bytes; at most %d are allowed", size, MaxSecret)
	}
	return f
}

// SecretKey names one value of a secret.
type SecretKey struct {
	Secret Name   `json:"secret" doc:"A secret of the project" example:"db"`
	Key    string `json:"key" doc:"Name of the value" maxLength:"253" example:"password"`
}

// SecretMount puts values of a secret into a container as files, which only the container's user can read.
type SecretMount struct {
	Secret Name   `json:"secret" doc:"A secret of the project" example:"db"`
	Key    string `json:"key,omitempty" doc:"Name of one value; then path is a file. When left out path is a directory with a file for each" maxLength:"253"`
	Path   string `json:"path" doc:"Absolute path in the container" maxLength:"4096"`
	UID    *int   `json:"uid,omitempty" doc:"Owner; the container's user when that is a number, else 0" minimum:"0" maximum:"4294967294"`
}

// SecretUse is what a container has of secrets.
type SecretUse struct {
	SecretEnv      map[string]SecretKey `json:"secretEnv,omitempty" doc:"Variables whose values are secret; the engine never sees them, and commands run later in the container do not have them"`
	Secrets        []SecretMount        `json:"secrets,omitempty" doc:"Secrets as files, in memory" maxItems:"32"`
	OnSecretChange SecretChange         `json:"onSecretChange,omitempty" doc:"restart, none, or a signal such as SIGHUP, sent when the files have changed; restart when left out"`
}

// SecretChange says what a container does when a secret of its changes.
type SecretChange string

// What to do besides sending a signal, which stands by its name.
const (
	SecretRestart SecretChange = "restart" // stop it and start it with the new values
	SecretNone    SecretChange = "none"    // change the files and say nothing
)

// Signal gives the signal to send, or "" for none.
func (c SecretChange) Signal() string {
	if strings.HasPrefix(string(c), "SIG") {
		return string(c)
	}
	return ""
}

// Refs gives every value that a container needs. One with an empty Key stands for all of its secret.
func (u *SecretUse) Refs() []SecretKey {
	var out []SecretKey
	for _, k := range sortedKeys(u.SecretEnv) {
		out = append(out, u.SecretEnv[k])
	}
	for _, m := range u.Secrets {
		out = append(out, SecretKey{m.Secret, m.Key})
	}
	return out
}

// SecretRefs gives every value that a pod needs, those of its registries included.
func (s *PodSpec) SecretRefs() []SecretKey {
	var out []SecretKey
	for _, c := range s.Template.All() {
		out = append(out, c.Refs()...)
	}
	for _, r := range s.Registries {
		out = append(out, SecretKey{r.Secret, UsernameKey}, SecretKey{r.Secret, PasswordKey})
	}
	return out
}

// Registry says with which secret images are fetched from a registry.
type Registry struct {
	Host   string `json:"host" doc:"As it stands in image references" example:"registry.example.com:5000" maxLength:"260"`
	Secret Name   `json:"secret" doc:"A secret of the project with the values username and password"`
}

// The values of a registry's secret.
const (
	UsernameKey = "username"
	PasswordKey = "password"
)

// SecretValue is a secret as it travels to the hosts that need it, with the values that they need. It prints
// without them.
type SecretValue struct {
	Project Name              `json:"project"`
	Name    Name              `json:"name"`
	Data    map[string][]byte `json:"data"`
}

// String gives the secret without its values.
func (v SecretValue) String() string { return fmt.Sprintf("secret %s/%s (hidden)", v.Project, v.Name) }

// GoString gives the secret without its values.
func (v SecretValue) GoString() string { return v.String() }

func (f *faults) secrets(at string, c *Container) {
	for name, ref := range c.SecretEnv {
		here := at + ".secretEnv." + name
		if !envName.MatchString(name) {
			f.addf(at+".secretEnv", "%.80q is no variable name; write letters, digits and _, not starting with a digit", name)
		}
		if _, twice := c.Env[name]; twice {
			f.addf(here, "stands in env as well; give it once")
		}
		f.add(here+".secret", ref.Secret.Validate())
		f.add(here+".key", secretKeyName(ref.Key))
	}
	f.unique(at+".secrets", len(c.Secrets), func(i int) (string, error) {
		m := c.Secrets[i]
		if err := m.Secret.Validate(); err != nil {
			return m.Path, in("secret", err)
		}
		if m.Key != "" {
			if err := secretKeyName(m.Key); err != nil {
				return m.Path, in("key", err)
			}
		}
		if m.UID != nil && (*m.UID < 0 || *m.UID > 4294967294) {
			return m.Path, in("uid", fmt.Errorf("is %d; 0 to 4294967294 are allowed", *m.UID))
		}
		return m.Path, in("path", absolutePath(m.Path))
	})
	if o := c.OnSecretChange; o != "" && o != SecretRestart && o != SecretNone && !signalName.MatchString(string(o)) {
		f.addf(at+".onSecretChange", "%.40q is not known; write restart, none or a signal such as SIGHUP", o)
	}
}

func (f *faults) registries(at string, list []Registry) {
	f.unique(at, len(list), func(i int) (string, error) {
		r := list[i]
		if !registryHost.MatchString(r.Host) {
			return r.Host, in("host", fmt.Errorf("%.80q is no registry; write a host name, with its port when it has one, such as registry.example.com:5000", r.Host))
		}
		return r.Host, in("secret", r.Secret.Validate())
	})
}

func secretKeyName(k string) error {
	if !secretKey.MatchString(k) {
		return fmt.Errorf("%.80q is no name of a value; write letters, digits, inner . _ and -", k)
	}
	return nil
}

var (
	secretKey    = newPattern(`^[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?$`)
	registryHost = newPattern(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?$`)
)
