package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
	"gearmesh.dev/api/frame"
	"gearmesh.dev/client"
	"gearmesh.dev/client/session"
)

// portPair is a port of this machine that leads to one of a pod.
type portPair struct{ local, remote uint16 }

func (a *app) portForwardCmd() *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use: "port-forward POD|SERVICE [LOCAL:]REMOTE...", Short: "Reach TCP ports of a pod from this machine",
		Long: `Listens on this machine and carries each connection into the pod's network, to 127.0.0.1 there or else to the pod's
address; so programs are reached that listen for the pod alone. With LOCAL 0, or :REMOTE, a free port is taken. Ctrl-C ends it.`,
		Example: `  gear port-forward db 6379
  gear port-forward web-7f3k2 8080:80 :9090`,
		Args: between(2, 64, "a pod or service, and ports"), ValidArgsFunction: a.completeNames(api.KindPod),
		RunE: func(cmd *cobra.Command, args []string) error {
			var pairs []portPair
			for _, text := range args[1:] {
				p, err := parsePorts(text)
				if err != nil {
					return usageError(cmd, "%v", err)
				}
				pairs = append(pairs, p)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			pod, err := a.podFor(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			return a.forward(cmd.Context(), c, pod, address, pairs)
		},
	}
	cmd.Flags().StringVar(&address, "address", "127.0.0.1", "address of this machine to listen on")
	return cmd
}

// parsePorts reads [LOCAL:]REMOTE.
func parsePorts(text string) (portPair, error) {
	local, remote, both := strings.Cut(text, ":")
	if !both {
		local, remote = text, text
	}
	if local == "" {
		local = "0"
	}
	l, err := strconv.ParseUint(local, 10, 16)
	r, err2 := strconv.ParseUint(remote, 10, 16)
	if err != nil || err2 != nil || r == 0 {
		return portPair{}, fmt.Errorf("%q is no port; write REMOTE, LOCAL:REMOTE or :REMOTE, such as 8080:80", text)
	}
	return portPair{uint16(l), uint16(r)}, nil
}

// forward serves until ctx ends.
func (a *app) forward(ctx context.Context, c *client.Client, pod *api.Pod, address string, pairs []portPair) error {
	var work sync.WaitGroup
	defer work.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, p := range pairs {
		l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(int(p.local))))
		if err != nil {
			return problem{what: fmt.Sprintf("port %d of this machine cannot be had", p.local), why: err.Error(),
				try: fmt.Sprintf("another one, such as :%d", p.remote), code: exitError}
		}
		context.AfterFunc(ctx, func() { l.Close() })
		fmt.Fprintf(a.err, "%s leads to port %d of pod %s\n", l.Addr(), p.remote, pod.Metadata.Name)
		work.Go(func() { a.acceptAll(ctx, c, pod, l, p.remote) })
	}
	<-ctx.Done()
	return ctx.Err()
}

// acceptAll carries each connection by itself: none waits for another.
func (a *app) acceptAll(ctx context.Context, c *client.Client, pod *api.Pod, l net.Listener, port uint16) {
	var work sync.WaitGroup
	defer work.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		work.Go(func() {
			if err := carry(ctx, c, pod, conn, port); err != nil && ctx.Err() == nil {
				a.complain(err)
			}
		})
	}
}

// complain says that one connection failed; the others go on.
func (a *app) complain(err error) {
	p := asProblem(err)
	fmt.Fprintf(a.err, "%s %s\n", a.errPaint.red("gear:"), p)
}

// carry takes one connection to the pod.
func carry(ctx context.Context, c *client.Client, pod *api.Pod, conn net.Conn, port uint16) error {
	defer conn.Close()
	s, err := c.Session(ctx, pod.Metadata.Project, pod.Metadata.Name, client.SessionForward, api.ForwardRequest{Port: port})
	if err != nil {
		return err
	}
	defer s.Close()
	f, err := s.Next()
	if err != nil {
		return lostSession(err)
	}
	if f.Type != frame.Start {
		return fmt.Errorf("the agent answers with a %s frame", f.Type)
	}
	err = session.Pipe(s, conn)
	var told *api.Error
	if errors.As(err, &told) || errors.Is(err, session.ErrLost) {
		return lostSession(err)
	}
	return nil // the program on this machine broke its own connection off
}
