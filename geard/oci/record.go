package oci

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// Record is what is on record for a container: what its bundle gets that the engine does not
// know. Its file has the namespace on the first line and, only when there is more, JSON on the second.
type Record struct {
	Namespace string            `json:"-"`                 // path of the pod's network namespace
	Pids      string            `json:"pids,omitempty"`    // path of the pid namespace that the pod's containers share
	Sysctls   map[string]string `json:"sysctls,omitempty"` // settings of that namespace: net.…
	Env       string            `json:"env,omitempty"`     // path of a file of NAME=value, each ended by NUL as in /proc/PID/environ, for the first process
}

// Text gives the record as it is kept.
func (r Record) Text() []byte {
	out := []byte(r.Namespace + "\n")
	if len(r.Sysctls) == 0 && r.Env == "" && r.Pids == "" {
		return out
	}
	rest, _ := json.Marshal(r) // strings alone: it cannot go wrong
	return append(append(out, rest...), '\n')
}

// ParseRecord reads a record. Of one whose second line is damaged it gives the namespace, and an error.
func ParseRecord(data []byte) (Record, error) {
	first, rest, _ := bytes.Cut(data, []byte("\n"))
	r := Record{Namespace: strings.TrimSpace(string(first))}
	if len(bytes.TrimSpace(rest)) == 0 {
		return r, nil
	}
	if err := json.Unmarshal(rest, &r); err != nil {
		return r, fmt.Errorf("reading the record: %w", err)
	}
	return r, nil
}

// apply puts everything on record into a config.json. Neither the engine nor its API ever sees the
// variables: the file they come from and the bundle are both in memory and root's.
func (r Record) apply(config []byte) ([]byte, error) {
	config, err := withNamespace(config, "network", r.Namespace)
	if err != nil {
		return nil, err
	}
	if r.Pids != "" {
		if config, err = withNamespace(config, "pid", r.Pids); err != nil {
			return nil, err
		}
	}
	if len(r.Sysctls) > 0 {
		if config, err = withSysctls(config, r.Sysctls); err != nil {
			return nil, err
		}
	}
	if r.Env == "" {
		return config, nil
	}
	set, err := os.ReadFile(r.Env)
	if err != nil {
		return nil, fmt.Errorf("reading the container's secrets: %w", err)
	}
	return withEnv(config, strings.Split(strings.TrimSuffix(string(set), "\x00"), "\x00"))
}

// withSysctls sets linux.sysctl of a config.json.
func withSysctls(config []byte, set map[string]string) ([]byte, error) {
	return within(config, "linux", func(linux map[string]json.RawMessage) error {
		all := map[string]string{}
		if err := json.Unmarshal(orEmpty(linux["sysctl"], "{}"), &all); err != nil {
			return fmt.Errorf("reading linux.sysctl in config.json: %w", err)
		}
		maps.Copy(all, set)
		var err error
		linux["sysctl"], err = encode(all)
		return err
	})
}

// withEnv sets variables in process.env of a config.json; one that is there already is replaced.
func withEnv(config []byte, set []string) ([]byte, error) {
	return within(config, "process", func(process map[string]json.RawMessage) error {
		var env []string
		if err := json.Unmarshal(orEmpty(process["env"], "[]"), &env); err != nil {
			return fmt.Errorf("reading process.env in config.json: %w", err)
		}
		for _, entry := range set {
			name, _, ok := strings.Cut(entry, "=")
			if !ok {
				continue
			}
			env = slices.DeleteFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
			env = append(env, entry)
		}
		var err error
		process["env"], err = encode(env)
		return err
	})
}

// within changes one object at the top of a config.json; every other value keeps its bytes.
func within(config []byte, key string, change func(map[string]json.RawMessage) error) ([]byte, error) {
	top, part := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if err := json.Unmarshal(config, &top); err != nil {
		return nil, fmt.Errorf("reading config.json: %w", err)
	}
	if err := json.Unmarshal(orEmpty(top[key], "{}"), &part); err != nil {
		return nil, fmt.Errorf("reading %s in config.json: %w", key, err)
	}
	if err := change(part); err != nil {
		return nil, err
	}
	var err error
	if top[key], err = encode(part); err != nil {
		return nil, err
	}
	return encode(top)
}
