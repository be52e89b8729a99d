// Command hello is the container of the lab's own test: it prints its words,
// or with "serve ADDRESS" answers each connection with its host's name.
package main

import (
	"fmt"
	"net"
	"os"
	"strings"
)

func main() {
	if len(os.Args) != 3 || os.Args[1] != "serve" {
		fmt.Println(strings.Join(os.Args[1:], " "))
		return
	}
	if err := serve(os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		fmt.Fprintln(conn, name)
		conn.Close()
	}
}
