// Command clockstep makes programs whose wall clock can be stepped, which no namespace of Linux can do for a host of a lab.
//
//	clockstep DIR
//
// writes files to DIR, the last one DIR/overlay.json, for go build -overlay DIR/overlay.json. A program that is built so adds to each
// time.Now what the file /run/clock-step says, a signed 64-bit number of seconds in the machine's byte order, from the
// moment at which it is written. Only the wall clock steps; the monotonic one does not, as with the kernel's. The file must be there when
// the program starts; without it nothing is added.
package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed overlay/step.go.txt
var step []byte

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "clockstep:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: clockstep DIR")
	}
	dir, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("asking where Go's sources are: %w", err)
	}
	std := filepath.Join(string(bytes.TrimSpace(root)), "src", "time")
	now, err := os.ReadFile(filepath.Join(std, "time.go"))
	if err != nil {
		return err
	}
	if now, err = steppable(now); err != nil {
		return err
	}
	return write(dir, std, map[string][]byte{"time.go": now, "step.go": step})
}

// steppable gives Go's time.go with a wall clock that can be stepped.
func steppable(source []byte) ([]byte, error) {
	read := []byte("func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n")
	if bytes.Count(source, read) != 1 {
		return nil, errors.New("time.Now of this Go is not as it was in Go 1.26: look how it reads the clock, and change steppable")
	}
	return bytes.Replace(source, read, append(read, "\tsec += wallStep()\n"...), 1), nil
}

// write keeps the files in dir, and the overlay that puts them into the folder std.
func write(dir, std string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	replace := map[string]string{}
	for name, text := range files {
		to := filepath.Join(dir, name+".txt")
		if err := os.WriteFile(to, text, 0o644); err != nil {
			return err
		}
		replace[filepath.Join(std, name)] = to
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o644)
}
