//go:build lab

package story

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"gearmesh.dev/api"
)

// readerOfLinks is a program that reads the stream of its pod's links: Debian's smallest perl can.
const readerOfLinks = `exec perl -MIO::Socket::UNIX -e '$| = 1; $s = IO::Socket::UNIX->new(Peer => $ENV{GEAR_LINKS_SOCKET}) or die "no stream: $!\n";
print $s "GET $ARGV[0] HTTP/1.0\r\nHost: links\r\n\r\n"; print while <$s>' `

// asApp runs a shell's text in the app's container, with options for docker exec.
func (w *World) asApp(ctx context.Context, text string, options ...string) (string, error) {
	return w.Exec(ctx, "h1", append([]string{"sh", "-c", `text=$1; shift; exec docker exec "$@" "$(docker ps -q -f name=app)" sh -c "$text" 2>&1`, "sh", text}, options...)...)
}

// streamLinks shows the discovery stream to a program in a container.
func streamLinks(ctx context.Context, w *World) error {
	if _, err := w.asApp(ctx, "echo $$ >/tmp/reader; "+readerOfLinks+"/v1/links/stream >/tmp/links 2>&1", "-d"); err != nil {
		return err
	}
	if err := w.untilCopies(ctx, "/tmp/links", 2); err != nil {
		return err
	}
	if out, err := w.asApp(ctx, `touch /run/gearmesh/mine || rm /run/gearmesh/links.sock || echo kept`); err != nil || !strings.Contains(out, "kept") {
		return fmt.Errorf("root in the container changes the socket's directory: %q, %w", out, err)
	}
	if out, err := w.asApp(ctx, readerOfLinks+"/v1/links", "-u", "12345"); err != nil || !strings.Contains(out, "200 OK") || !strings.Contains(out, `"service":"db"`) {
		return fmt.Errorf("another user reads %q, %w", out, err)
	}
	start := time.Now()
	if err := w.copies(ctx, 3); err != nil {
		return err
	}
	if err := w.untilCopies(ctx, "/tmp/links", 3); err != nil {
		return err
	}
	w.Say("a third copy was told of %.1f s after it was asked for", time.Since(start).Seconds())
	if err := w.streamAnew(ctx); err != nil {
		return err
	}
	if err := w.copies(ctx, 2); err != nil {
		return err
	}
	if err := w.untilCopies(ctx, "/tmp/again", 2); err != nil {
		return err
	}
	return Until(ctx, Patience, func() error {
		out, err := w.Exec(ctx, "h1", "sh", "-c", "cd /run/gear/pods && ls >/tmp/run; cd /var/lib/gear/pods && ls | diff - /tmp/run")
		if err != nil {
			err = fmt.Errorf("pods on disk, and those with a socket: %w %s", err, out)
		}
		return err
	})
}

// streamAnew kills the agent: the stream ends, and can be opened again when the agent is back.
func (w *World) streamAnew(ctx context.Context) error {
	if _, err := w.Exec(ctx, "h1", "systemctl", "kill", "-s", "KILL", "gear-agent.service"); err != nil {
		return err
	}
	if out, err := w.asApp(ctx, readerOfLinks+"/v1/links"); err == nil && out != "" && !strings.Contains(out, "200 OK") { // a dying agent may still take the connection
		return fmt.Errorf("without an agent there came %q", out)
	}
	return Until(ctx, Patience, func() error {
		if _, err := w.asApp(ctx, "kill -0 $(cat /tmp/reader)"); err == nil {
			return errors.New("the reader of the first stream runs on")
		}
		if out, err := w.asApp(ctx, readerOfLinks+"/v1/links"); err != nil || !strings.Contains(out, "200 OK") {
			return fmt.Errorf("%q %w", out, err)
		}
		if _, err := w.asApp(ctx, readerOfLinks+"/v1/links/stream >/tmp/again 2>&1", "-d"); err != nil {
			return err
		}
		return w.untilCopies(ctx, "/tmp/again", 3)
	})
}

// copies asks for so many copies of db.
func (w *World) copies(ctx context.Context, n int) error {
	out, err := w.Apply(ctx, strings.Replace(balancedShop, "replicas: 2", fmt.Sprintf("replicas: %d", n), 1))
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// untilCopies waits until the last event in a file of the app's container is of so many backends.
func (w *World) untilCopies(ctx context.Context, file string, want int) error {
	return Until(ctx, Patience, func() error {
		out, err := w.asApp(ctx, "cat "+file)
		if err != nil {
			return err
		}
		_, last, _ := strings.Cut(out[max(0, strings.LastIndex(out, "event: links")):], "\ndata: ")
		last, _, _ = strings.Cut(last, "\n")
		var f api.LinkFeed
		if err := json.Unmarshal([]byte(last), &f); err != nil || len(f.Links) != 1 || len(f.Links[0].Backends) != want || f.Project != "shop" {
			return fmt.Errorf("want %d copies in the last event of %q, %w", want, out, err)
		}
		return nil
	})
}
