package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"gearmesh.dev/api"
	"gearmesh.dev/api/frame"
	"gearmesh.dev/client"
	"gearmesh.dev/client/session"
)

// exitLost is exec's exit status when the connection broke, as ssh has it: no usual command ends so.
const exitLost = 255

func (a *app) execCmd() *cobra.Command {
	var ask api.ExecRequest
	cmd := &cobra.Command{
		Use: "exec POD|SERVICE -- COMMAND...", Short: "Run a command in a container, and end with its exit status",
		Long: `Runs a command in a pod's container. No shell looks at the command: write sh -c '...' for one.
With -i it reads what gear reads; with -t it has a terminal, which follows the size of yours. Of a service a ready pod is taken.
gear ends with the command's exit status, or with 255 when the connection broke; the command then gets SIGHUP.`,
		Example: `  gear exec web-7f3k2 -- ls -l /srv
  gear exec -it web -- bash
  gear exec -i db -- psql < dump.sql`,
		Args: between(2, 1<<16, "a pod, --, and a command"), ValidArgsFunction: a.completeNames(api.KindPod),
		RunE: func(cmd *cobra.Command, args []string) error {
			ask.Command = args[1:]
			return a.exec(cmd, args[0], ask)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&ask.Stdin, "stdin", "i", false, "pass on standard input")
	f.BoolVarP(&ask.TTY, "tty", "t", false, "give the command a terminal")
	containerFlag(cmd, &ask.Container)
	return cmd
}

func (a *app) shellCmd() *cobra.Command {
	// Not every image has bash, and some have no shell at all, which then is what the error says.
	const login = "if command -v bash >/dev/null; then exec bash -l; else exec sh -l; fi"
	ask := api.ExecRequest{Stdin: true, TTY: true, Command: []string{"sh", "-c", login}}
	cmd := &cobra.Command{
		Use: "shell POD|SERVICE", Short: "Open a shell in a container",
		Example: `  gear shell web-7f3k2
  gear shell web -c sidecar`,
		Args: between(1, 1, "a pod"), ValidArgsFunction: a.completeNames(api.KindPod),
		RunE: func(cmd *cobra.Command, args []string) error { return a.exec(cmd, args[0], ask) },
	}
	containerFlag(cmd, &ask.Container)
	return cmd
}

func containerFlag(cmd *cobra.Command, to *api.Name) {
	cmd.Flags().StringVarP((*string)(to), "container", "c", "", "container of the pod (default its first)")
}

// exec runs a command and gives its exit status as the error.
func (a *app) exec(cmd *cobra.Command, word string, ask api.ExecRequest) error {
	var tty *os.File
	if ask.TTY {
		tty, _ = a.in.(*os.File)
		if tty == nil || !a.inTTY {
			return problem{what: "standard input is no terminal", why: "-t needs one", try: "the same without -t", code: exitUsage}
		}
		ask.Term = a.getenv("TERM")
		size := sizeOf(tty)
		ask.Columns, ask.Rows = size.Columns, size.Rows
	}
	if err := ask.Validate(); err != nil {
		return err
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	pod, err := a.podFor(cmd.Context(), c, word)
	if err != nil {
		return err
	}
	s, err := c.Session(cmd.Context(), pod.Metadata.Project, pod.Metadata.Name, client.SessionExec, ask)
	if err != nil {
		return err
	}
	defer s.Close()
	if tty != nil {
		restore, err := follow(tty, s)
		if err != nil {
			return err
		}
		defer restore()
	}
	if ask.Stdin {
		go sendInput(a.in, s) // not waited for: a read of a terminal ends with the process
	}
	return a.attend(s)
}

// sendInput passes standard input on, and its end.
func sendInput(in io.Reader, s *session.Conn) {
	if _, err := io.Copy(s.Writer(frame.Data), in); err == nil || !errors.Is(err, session.ErrLost) {
		_ = s.Send(frame.End, nil) // a session that is gone says so to who reads
	}
}

// attend shows what a command writes until it ends.
func (a *app) attend(s *session.Conn) error {
	for {
		f, err := s.Next()
		if err != nil {
			return lostSession(err)
		}
		switch f.Type {
		case frame.Data:
			_, err = a.out.Write(f.Payload)
		case frame.Stderr:
			_, err = a.err.Write(f.Payload)
		case frame.Exit:
			if code := f.Code(); code != 0 {
				return exited(code)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("writing what the command says: %w", err)
		}
	}
}

// lostSession says of a broken session what is known of it.
func lostSession(err error) error {
	var told *api.Error
	switch {
	case errors.Is(err, session.ErrLost):
		return problem{what: "the connection was lost", why: "what ran may still run", code: exitLost, cause: err}
	case errors.As(err, &told) && told.Code == api.CodeUnavailable:
		return problem{what: told.Detail, code: exitLost, cause: err}
	}
	return err
}

// follow makes a terminal raw, so that keys such as Ctrl-C go to the other side, and tells its sizes.
func follow(tty *os.File, s *session.Conn) (restore func(), err error) {
	before, err := term.MakeRaw(int(tty.Fd()))
	if err != nil {
		return nil, fmt.Errorf("making the terminal raw: %w", err)
	}
	changed, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(changed, syscall.SIGWINCH)
	go func() {
		defer close(done)
		for range changed {
			_ = s.Send(frame.Resize, sizeOf(tty).Payload()) // a session that is gone says so to who reads
		}
	}()
	return func() {
		signal.Stop(changed)
		close(changed)
		<-done
		_ = term.Restore(int(tty.Fd()), before) // there is nothing else to try
	}, nil
}

// sizeOf gives a terminal's size; zero when it has none.
func sizeOf(tty *os.File) frame.Size {
	w, h, err := term.GetSize(int(tty.Fd()))
	if err != nil {
		return frame.Size{}
	}
	return frame.Size{Columns: uint16(w), Rows: uint16(h)}
}

// podFor gives the pod that a word means: of a service's name a ready one, else the pod with this name or the
// only one whose name starts so.
func (a *app) podFor(ctx context.Context, c *client.Client, word string) (*api.Pod, error) {
	key, err := a.key(ctx, c, api.KindPod, word)
	if err != nil {
		return nil, err
	}
	pods, _, err := listKind(ctx, c, api.KindPod, key.Project)
	if err != nil {
		return nil, err
	}
	if p := podOfService(pods, key.Name); p != nil {
		return p, nil
	}
	r, err := a.meant(key, pods)
	if err != nil {
		return nil, err
	}
	return r.(*api.Pod), nil
}

// podOfService gives a pod of a service, a ready one if there is one.
func podOfService(pods []api.Resource, service api.Name) (found *api.Pod) {
	for _, r := range pods {
		p := r.(*api.Pod)
		if p.Metadata.Name == service {
			return nil // a pod's own name goes first
		}
		if p.Spec.Service == service && !p.Metadata.Deleting && (found == nil || p.Status.Ready && !found.Status.Ready) {
			found = p
		}
	}
	return found
}
