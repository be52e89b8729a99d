package oci

import "strings"

// call is what this package needs to know of a runtime's command line.
type call struct {
	command   string // create, start, …
	id        string // of the container: the last argument of create and run
	bundle    string // directory; the current one unless told otherwise
	log       string // file for messages, empty for none
	logFormat string // text or json
}

// withValue tells whether a flag of runc or crun takes its value from the next argument. Flags that
// are not here are switches, or have their value after "=".
func withValue(flag string) bool {
	switch flag {
	case "log", "log-format", "root", "criu", "rootless", "cgroup-manager", // before the command
		"bundle", "b", "console-socket", "pid-file", "preserve-fds", "config", "f": // after it
		return true
	}
	return false
}

// parse reads a command line as runc (urfave/cli) does: flags, the command, its flags, its arguments;
// one or two hyphens; the value after "=" or as the next argument; "--" ends the flags.
func parse(argv []string) call {
	c := call{bundle: "."}
	args := argv[min(1, len(argv)):]
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			continue
		case len(arg) < 2 || arg[0] != '-':
			c.positional(arg)
			continue
		}
		name, value, joined := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !joined && withValue(name) && i+1 < len(args) {
			i++
			value = args[i]
		}
		c.flag(name, value)
	}
	return c
}

// positional takes an argument that is no flag: the command first, then, last of all, the id.
func (c *call) positional(arg string) {
	if c.command == "" {
		c.command = arg
		return
	}
	c.id = arg
}

func (c *call) flag(name, value string) {
	switch name {
	case "log":
		c.log = value
	case "log-format":
		c.logFormat = value
	case "bundle", "b":
		c.bundle = value
	}
}
