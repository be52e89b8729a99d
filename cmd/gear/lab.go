package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"gearmesh.dev/contrib/lab"
)

// labFlags say which lab is meant.
type labFlags struct {
	name, state, cache string
}

func (a *app) labCmd() *cobra.Command {
	var f labFlags
	cmd := &cobra.Command{
		Use: "lab", Short: "Make hosts on this machine to try things: real systemd, dockerd and network, no virtual machines",
		Example: `  gear lab up -n 3
  gear lab exec h1 -- gear up --router
  gear lab shell h1
  gear lab down`,
		Args: a.unknownCommand, RunE: help,
	}
	p := cmd.PersistentFlags()
	p.StringVar(&f.name, "lab", "lab", "the lab's name: up to 12 lower-case letters and digits")
	p.StringVar(&f.state, "state-dir", "", "where the hosts' disks are (default /var/lib/gear-lab)")
	p.StringVar(&f.cache, "cache-dir", "", "where root trees and images are kept (default /var/cache/gear-lab)")
	cmd.AddCommand(a.labUpCmd(&f), a.labListCmd(&f), a.labExecCmd(&f), a.labLogsCmd(&f), a.labLoadCmd(&f),
		a.labVerb(&f, "down", "Take the lab away, disks included", "gear lab down --lab demo", 0, func(ctx context.Context, l *lab.Lab, _ []string) error { return l.Down(ctx) }),
		a.labVerb(&f, "poweroff HOST...", "Cut hosts' power, as if the plug were pulled", "gear lab poweroff h2", 1, func(ctx context.Context, l *lab.Lab, n []string) error { return l.PowerOff(ctx, n...) }),
		a.labVerb(&f, "boot HOST...", "Start hosts that are off, from their own disks", "gear lab boot h2", 1, func(ctx context.Context, l *lab.Lab, n []string) error { return l.Boot(ctx, n...) }),
		a.labVerb(&f, "partition HOST...", "Cut hosts off the network; exec still works", "gear lab partition h2", 1, func(ctx context.Context, l *lab.Lab, n []string) error { return l.Partition(ctx, n...) }),
		a.labVerb(&f, "heal [HOST...]", "Connect hosts again, all without names", "gear lab heal", 0, func(ctx context.Context, l *lab.Lab, n []string) error { return l.Heal(ctx, n...) }),
		a.labShellCmd(&f))
	return cmd
}

// open gives the lab. Steps are shown as they end.
func (a *app) open(f *labFlags, more lab.Config) (*lab.Lab, error) {
	more.Name, more.StateDir, more.CacheDir = f.name, f.state, f.cache
	more.Log = slog.New(slog.NewTextHandler(a.err, nil))
	more.Progress = func(s lab.Step) {
		fmt.Fprintf(a.err, "%s %-4s %s %s\n", a.errPaint.green("✔"), s.Host, s.What, a.errPaint.grey(fmt.Sprintf("%.1fs", s.Elapsed.Seconds())))
	}
	if len(more.Binaries) == 0 {
		more.Binaries = ownBinaries()
	}
	return lab.New(more)
}

// ownBinaries gives gear, geard and gear-run from beside this program, if they are there.
func ownBinaries() []string {
	self, err := os.Executable()
	if err != nil {
		return nil
	}
	var out []string
	for _, name := range []string{"gear", "geard", "gear-run"} {
		path := filepath.Join(filepath.Dir(self), name)
		if _, err := os.Stat(path); err != nil {
			return nil // a part of them would be of no use
		}
		out = append(out, path)
	}
	return out
}

func (a *app) labUpCmd(f *labFlags) *cobra.Command {
	var n int
	var c lab.Config
	cmd := &cobra.Command{
		Use: "up", Short: "Make the lab, or boot what is missing of it",
		Example: `  gear lab up -n 3
  gear lab up -n 1 --package redis-tools`,
		Args: between(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := a.open(f, c)
			if err != nil {
				return err
			}
			if err := l.Up(cmd.Context(), n); err != nil {
				return err
			}
			return a.labList(cmd.Context(), l, "")
		},
	}
	cmd.Flags().IntVarP(&n, "hosts", "n", 3, "number of hosts: h1, h2, ...")
	cmd.Flags().StringSliceVar(&c.Packages, "package", nil, "Debian packages for the hosts, besides those they always have")
	cmd.Flags().StringSliceVar(&c.Binaries, "binary", nil, "files for the hosts' /usr/local/bin (default gear, geard and gear-run beside this program)")
	return cmd
}

func (a *app) labListCmd(f *labFlags) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "list", Short: "Show the lab's hosts", Example: "  gear lab list -o json", Args: between(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(cmd, format, "json", "name"); err != nil {
				return err
			}
			l, err := a.open(f, lab.Config{})
			if err != nil {
				return err
			}
			return a.labList(cmd.Context(), l, format)
		},
	}
	formatFlag(cmd, &format, "json", "name")
	return cmd
}

func (a *app) labList(ctx context.Context, l *lab.Lab, format string) error {
	hosts, err := l.List(ctx)
	if err != nil {
		return err
	}
	if format == "json" {
		return a.printValue(hosts, format)
	}
	var rows [][]string
	for _, h := range hosts {
		if format == "name" {
			fmt.Fprintln(a.out, h.Name)
		}
		rows = append(rows, []string{h.Name, fmt.Sprint(h.State), h.Address.String()})
	}
	if format == "" {
		writeTable(a.out, a.outPaint, []string{"host", "state", "address"}, rows)
	}
	return nil
}

// labVerb makes a command that does one thing to some hosts.
func (a *app) labVerb(f *labFlags, use, short, example string, least int, do func(context.Context, *lab.Lab, []string) error) *cobra.Command {
	most := 0
	if use != "down" {
		most = lab.MaxHosts
	}
	return &cobra.Command{
		Use: use, Short: short, Example: "  " + example, Args: between(least, most, "names of hosts"), ValidArgsFunction: a.completeLabHosts(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.open(f, lab.Config{})
			if err != nil {
				return err
			}
			return do(cmd.Context(), l, args)
		},
	}
}

func (a *app) labStreams() lab.Streams { return lab.Streams{In: a.in, Out: a.out, Err: a.err} }

func (a *app) labExecCmd(f *labFlags) *cobra.Command {
	return &cobra.Command{
		Use: "exec HOST -- COMMAND...", Short: "Run a command in a host, and end with its exit status",
		Example: `  gear lab exec h1 -- systemctl status`,
		Args:    between(2, 1<<16, "a host, --, and a command"), ValidArgsFunction: a.completeLabHosts(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.inLab(f, func(l *lab.Lab) (int, error) { return l.Exec(cmd.Context(), args[0], args[1:], a.labStreams()) })
		},
	}
}

func (a *app) labShellCmd(f *labFlags) *cobra.Command {
	return &cobra.Command{
		Use: "shell HOST", Short: "Open a shell in a host", Example: "  gear lab shell h1", Args: between(1, 1, "a host"), ValidArgsFunction: a.completeLabHosts(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.inLab(f, func(l *lab.Lab) (int, error) { return l.Shell(cmd.Context(), args[0], a.labStreams()) })
		},
	}
}

func (a *app) labLogsCmd(f *labFlags) *cobra.Command {
	return &cobra.Command{
		Use: "logs HOST [-- JOURNALCTL-ARGUMENTS...]", Short: "Read a host's journal",
		Example: `  gear lab logs h1 -- -u gear-agent -f`,
		Args:    between(1, 1<<16, "a host, and perhaps -- and arguments"), ValidArgsFunction: a.completeLabHosts(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.inLab(f, func(l *lab.Lab) (int, error) { return l.Logs(cmd.Context(), args[0], args[1:], a.labStreams()) })
		},
	}
}

// inLab runs something in a host; gear ends with its exit status.
func (a *app) inLab(f *labFlags, do func(*lab.Lab) (int, error)) error {
	l, err := a.open(f, lab.Config{})
	if err != nil {
		return err
	}
	code, err := do(l)
	if err == nil && code != 0 {
		return exited(code)
	}
	return err
}

func (a *app) labLoadCmd(f *labFlags) *cobra.Command {
	var i lab.Image
	cmd := &cobra.Command{
		Use: "load NAME:TAG", Short: "Build an image without any docker and put it into the lab's registry",
		Example: `  gear lab load shop/web:1 --binary ./web
  gear lab load shop/redis:1 --packages redis-server --cmd redis-server`,
		Args: between(1, 1, "the image's name and tag"),
		RunE: func(cmd *cobra.Command, args []string) error {
			i.Name = args[0]
			if i.Binary == "" && i.Dir == "" && i.Tar == "" && len(i.Packages) == 0 {
				return usageError(cmd, "what shall be in the image? give one of --binary, --dir, --tar and --packages")
			}
			l, err := a.open(f, lab.Config{})
			if err != nil {
				return err
			}
			ref, err := l.Load(cmd.Context(), i)
			if err == nil && ref == "" {
				err = errors.New("the image has no reference")
			}
			if err == nil {
				fmt.Fprintln(a.out, ref)
			}
			return err
		},
	}
	p := cmd.Flags()
	p.StringVar(&i.Binary, "binary", "", "a static program; becomes the entrypoint")
	p.StringVar(&i.Dir, "dir", "", "a directory that becomes /")
	p.StringVar(&i.Tar, "tar", "", "an uncompressed tar that becomes /")
	p.StringSliceVar(&i.Packages, "packages", nil, "Debian packages")
	p.StringArrayVar(&i.Entrypoint, "entrypoint", nil, "entrypoint; again for each word")
	p.StringArrayVar(&i.Cmd, "cmd", nil, "command; again for each word")
	p.StringArrayVar(&i.Env, "env", nil, "KEY=value; may be given again")
	p.StringVar(&i.User, "user", "", "user that runs it")
	p.StringVar(&i.WorkDir, "workdir", "", "working directory")
	return cmd
}
