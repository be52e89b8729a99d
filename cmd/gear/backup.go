package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"gearmesh.dev/client"
	"gearmesh.dev/internal/backup"
)

// passphraseVar holds a passphrase where nobody can be asked.
const passphraseVar = "GEAR_PASSPHRASE"

func (a *app) backupCmd() *cobra.Command {
	var recipient string
	cmd := &cobra.Command{
		Use: "backup FILE", Short: "Write everything that the masters know into an encrypted file",
		Long: `All that the store holds as of one moment, the cluster's CA with its key, the key of the secrets, and who may use the API:
enough to make the cluster's master anew (gear restore). The file is encrypted with a passphrase ($` + passphraseVar + `, or asked for) or for an age
key, and only its owner may read it. It replaces FILE when it is whole.`,
		Example: `  gear backup cluster.backup
  gear backup cluster.backup --recipient age1…    # opened by that key alone`,
		Args: between(1, 1, "the file to write"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			if err := writeWhole(args[0], func(w io.Writer) error { return a.backup(cmd.Context(), c, w, recipient) }); err != nil {
				return err
			}
			fmt.Fprintf(a.err, "wrote %s; try it: gear restore %s --dir /tmp/restored\n", args[0], args[0])
			return nil
		},
	}
	cmd.Flags().StringVar(&recipient, "recipient", "", "age public key to encrypt for, instead of a passphrase")
	return cmd
}

// backup writes a backup, encrypted. With a passphrase the master encrypts for a key of this moment, and this program anew.
func (a *app) backup(ctx context.Context, c *client.Client, w io.Writer, recipient string) error {
	if recipient != "" {
		return c.Backup(ctx, w, recipient)
	}
	passphrase, err := a.passphrase(true)
	if err != nil {
		return err
	}
	identity, once, err := backup.NewKey()
	if err != nil {
		return err
	}
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(c.Backup(ctx, pw, once)) }()
	plain, err := backup.Open(pr, strings.NewReader(identity))
	if err != nil {
		return err
	}
	sealed, err := backup.SealWith(w, passphrase)
	if err != nil {
		return err
	}
	if _, err := io.Copy(sealed, plain); err != nil {
		return err
	}
	return sealed.Close()
}

// passphrase gives that of the environment, or asks for it; twice when it is a new one.
func (a *app) passphrase(fresh bool) (string, error) {
	if p := a.getenv(passphraseVar); p != "" {
		return p, nil
	}
	if !a.inTTY {
		return "", problem{what: "a passphrase is needed and nobody can be asked", try: "set " + passphraseVar + ", or use an age key", code: exitUsage}
	}
	first, err := a.ask("Passphrase: ")
	if err != nil {
		return "", err
	}
	if first == "" {
		return "", problem{what: "the passphrase is empty", code: exitUsage}
	}
	if !fresh {
		return first, nil
	}
	again, err := a.ask("Once more: ")
	if err == nil && again != first {
		err = problem{what: "the two passphrases differ", code: exitUsage}
	}
	return first, err
}

func (a *app) ask(what string) (string, error) {
	fmt.Fprint(a.err, what)
	defer fmt.Fprintln(a.err)
	text, err := term.ReadPassword(int(os.Stdin.Fd()))
	if err != nil {
		return "", fmt.Errorf("reading the passphrase: %w", err)
	}
	return string(text), nil
}

// writeWhole writes a file of its owner's, which is there under its name only when it is whole.
func writeWhole(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	return f.Close()
}

func (a *app) restoreCmd() *cobra.Command {
	var dir, identity string
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "Make this host's master from a backup",
		Long: `Makes the directory of a master from a file of gear backup, on the host that shall run it, as root; then gear up starts it. Stop the
cluster's other masters first and for good. Hosts go on with what they run: pods that came after the backup are shown as unknown, and nothing
stops them by itself.`,
		Example: `  gear restore cluster.backup && gear up
  gear restore cluster.backup --identity key.txt
  gear restore cluster.backup --dir /tmp/restored   # to see that it is good`,
		Args: between(1, 1, "the file of gear backup"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.restore(cmd.Context(), args[0], dir, identity)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "/var/lib/gear/master", "directory to make, which must be missing or empty")
	cmd.Flags().StringVar(&identity, "identity", "", "file with the age key that opens the backup, instead of a passphrase")
	return cmd
}

// restore opens a backup and hands it to geard, which has the store.
func (a *app) restore(ctx context.Context, path, dir, identity string) error {
	in, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading the backup: %w", err)
	}
	defer in.Close()
	plain, err := a.opened(in, identity)
	if err != nil {
		return err
	}
	geard, err := besideThis("geard")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, geard, "restore", "--dir", dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = plain, a.out, a.err
	if err := cmd.Run(); err != nil {
		return problem{what: "the backup was not restored", why: err.Error(), code: exitError}
	}
	return nil
}

func (a *app) opened(in io.Reader, identity string) (io.Reader, error) {
	if identity == "" {
		passphrase, err := a.passphrase(false)
		if err != nil {
			return nil, err
		}
		return backup.OpenWith(in, passphrase)
	}
	keys, err := os.Open(identity)
	if err != nil {
		return nil, fmt.Errorf("reading the age key: %w", err)
	}
	defer keys.Close()
	return backup.Open(in, keys)
}

// besideThis finds a program of the same release: in this one's directory.
func besideThis(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding %s: %w", name, err)
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("finding %s: %w; unpack the whole release beside gear", name, err)
	}
	return path, nil
}
