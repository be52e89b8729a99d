package api

import (
	"fmt"
	"path"
	"strings"
)

// ExecRequest is the first frame of GET .../exec: a command to run in a container.
type ExecRequest struct {
	Container Name     `json:"container,omitempty" doc:"The pod's first one when left out"`
	Command   []string `json:"command" doc:"Program and arguments; no shell looks at them"`
	TTY       bool     `json:"tty,omitempty" doc:"Give it a terminal; standard error then comes with standard output"`
	Stdin     bool     `json:"stdin,omitempty" doc:"Give it what the client sends; without, its standard input is empty"`
	Term      string   `json:"term,omitempty" doc:"TERM of the client's terminal"`
	Columns   uint16   `json:"columns,omitempty" doc:"Of the client's terminal"`
	Rows      uint16   `json:"rows,omitempty"`
}

// maxCommand bounds the words of a command.
const maxCommand = 1000

// Validate refuses a command that cannot be run, or whose words are not text.
func (r ExecRequest) Validate() error {
	var faults []Fault
	bad := func(field, format string, args ...any) {
		faults = append(faults, Fault{Field: field, Message: fmt.Sprintf(format, args...)})
	}
	if r.Container != "" {
		if err := r.Container.Validate(); err != nil {
			bad("container", "%v", err)
		}
	}
	if len(r.Command) == 0 || r.Command[0] == "" {
		bad("command", "a program is needed")
	}
	if len(r.Command) > maxCommand {
		bad("command", "it has %d words; the most is %d", len(r.Command), maxCommand)
	}
	for i, word := range r.Command {
		if strings.ContainsRune(word, 0) {
			bad(fmt.Sprintf("command[%d]", i), "it has a zero byte, which no program can be given")
		}
	}
	if strings.ContainsFunc(r.Term, func(c rune) bool { return !termRune(c) }) || len(r.Term) > 64 {
		bad("term", "%.70q is no name of a terminal; one is xterm-256color", r.Term)
	}
	return invalid("the command", faults)
}

func termRune(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-+._", c)
}

// ForwardRequest is the first frame of GET .../forward: a TCP connection to make in the pod's network.
type ForwardRequest struct {
	Port uint16 `json:"port" doc:"On 127.0.0.1 in the pod, or else on the pod's address"`
}

// Validate refuses port 0.
func (r ForwardRequest) Validate() error {
	if r.Port == 0 {
		return invalid("the port", []Fault{{Field: "port", Message: "it is 1 to 65535"}})
	}
	return nil
}

// CopyRequest is the first frame of GET .../files: a path to read or write, as a tar archive.
type CopyRequest struct {
	Container Name   `json:"container,omitempty" doc:"The pod's first one when left out"`
	Path      string `json:"path" doc:"Absolute, in the container"`
	Write     bool   `json:"write,omitempty" doc:"The client sends the archive"`
}

// MaxPathLen bounds a path; Linux has no longer ones.
const MaxPathLen = 4096

// Validate refuses what is no absolute path.
func (r CopyRequest) Validate() error {
	var faults []Fault
	if r.Container != "" {
		if err := r.Container.Validate(); err != nil {
			faults = append(faults, Fault{Field: "container", Message: err.Error()})
		}
	}
	if !path.IsAbs(r.Path) || len(r.Path) > MaxPathLen || strings.ContainsRune(r.Path, 0) {
		faults = append(faults, Fault{Field: "path", Message: fmt.Sprintf("%.80q is no absolute path, such as /etc/app.conf", r.Path)})
	}
	return invalid("the copy", faults)
}

// CopyAnswer is the agent's first frame of a copy: what the path is now.
type CopyAnswer struct {
	Name      string `json:"name,omitempty" doc:"Last element of the path; the archive's names begin with it"`
	Exists    bool   `json:"exists,omitempty"`
	Directory bool   `json:"directory,omitempty" doc:"Of a link: what it leads to"`
}

func invalid(what string, faults []Fault) error {
	if len(faults) == 0 {
		return nil
	}
	return Invalid(what, faults)
}
