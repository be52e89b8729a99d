package engine

import (
	"fmt"
	"strings"

	"github.com/docker/docker/api/types/registry"
)

// DockerHub is the registry of references that name none.
const DockerHub = "docker.io"

// Login is what a registry wants to know of who asks. The zero Login is nobody. It prints without the password.
type Login struct {
	Username, Password string
}

// String hides the password.
func (l Login) String() string { return fmt.Sprintf("login %q", l.Username) }

// GoString hides the password.
func (l Login) GoString() string { return l.String() }

// header gives the value of X-Registry-Auth, which goes to the engine over its socket.
func (l Login) header(ref string) (string, error) {
	if l == (Login{}) {
		return "", nil
	}
	address := RegistryOf(ref)
	if address == DockerHub {
		address = "https://index.docker.io/v1/" // as docker login has it
	}
	text, err := registry.EncodeAuthConfig(registry.AuthConfig{Username: l.Username, Password: l.Password, ServerAddress: address})
	if err != nil {
		return "", fmt.Errorf("logging in for image %q: %w", ref, err)
	}
	return text, nil
}

// RegistryOf gives the registry of an image reference, by the rule of the distribution project's
// reference package: the first part is a host when it has a dot or a colon, or is localhost.
func RegistryOf(ref string) string {
	first, _, more := strings.Cut(ref, "/")
	if more && (strings.ContainsAny(first, ".:") || first == "localhost" || strings.ToLower(first) != first) {
		return first
	}
	return DockerHub
}
