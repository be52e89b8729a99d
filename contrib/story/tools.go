package story

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"gearmesh.dev/contrib/lab"
)

// Tools shows what people do in pods: commands, terminals, ports, files, and logs of what is gone.
func Tools() []Step {
	return []Step{
		{"gear exec: the exit code, standard error apart, and 10 MB through cat byte by byte", execStreams},
		{"gear exec -it: a terminal, with its size, and the new size when it changes", execTerminal},
		{"the agent is killed in the middle of gear exec: a clear error, and status 255", execLosesAgent},
		{"gear port-forward: two connections at once to a redis that listens in its pod", forwardRedis},
		{"gear cp: a directory there and back, the same", copyThereAndBack},
		{"gear logs --previous after a crash, --system, and the logs of a pod that is deleted", logsOfThePast},
	}
}

// status runs gear on h1 and gives its exit status and streams.
func (w *World) status(ctx context.Context, in []byte, args ...string) (code int, out, errs string, err error) {
	var stdout, stderr bytes.Buffer
	code, err = w.Lab.Exec(ctx, "h1", append([]string{"gear"}, args...), lab.Streams{In: bytes.NewReader(in), Out: &stdout, Err: &stderr})
	return code, stdout.String(), stderr.String(), err
}

func execStreams(ctx context.Context, w *World) error {
	code, out, errs, err := w.status(ctx, nil, "exec", "-p", Project, "db", "--", "sh", "-c", "echo to stdout; echo to stderr >&2; exit 7")
	if err != nil || code != 7 || out != "to stdout\n" || errs != "to stderr\n" {
		return fmt.Errorf("exit status %d, stdout %q, stderr %q: %v", code, out, errs, err)
	}
	sent := make([]byte, 10_000_000)
	noise := rand.NewChaCha8([32]byte{})
	_, _ = noise.Read(sent) // never fails
	start := time.Now()
	code, out, errs, err = w.status(ctx, sent, "exec", "-i", "-p", Project, "db", "--", "cat")
	if err != nil || code != 0 || sha256.Sum256([]byte(out)) != sha256.Sum256(sent) {
		return fmt.Errorf("cat ended with %d after %d of %d bytes: %s: %v", code, len(out), len(sent), errs, err)
	}
	w.Say("10 MB there and back in %.1f s", time.Since(start).Seconds())
	return nil
}

func execTerminal(ctx context.Context, w *World) error {
	// script(1) gives gear a terminal; its size is changed from beside, as a window's.
	// An engine of before API 1.42 sets the first size a moment after the start.
	const inside = `becomes() { for i in $(seq 1000); do [ "$(stty size)" = "$1" ] && break; sleep 0.1; done; stty size; }; becomes "40 100"; echo $TERM; touch /tmp/sized; becomes "44 111"; rm /tmp/sized; exit 9`
	const session = `stty rows 40 cols 100; tty=$(tty)
		(until gear exec -p guestbook db -- test -e /tmp/sized; do sleep 0.2; done </dev/null >/dev/null 2>&1; stty -F $tty rows 44 cols 111) & TERM=xterm exec gear exec -it -p guestbook db -- sh -c '` + inside + `'`
	var out bytes.Buffer
	code, err := w.Lab.Exec(ctx, "h1", []string{"script", "-qec", session, "/dev/null"}, lab.Streams{Out: &out, Err: &out})
	if text := strings.ReplaceAll(out.String(), "\r", ""); err != nil || code != 9 || !strings.Contains(text, "40 100\nxterm\n44 111\n") {
		return fmt.Errorf("exit status %d, and the terminal shows %q: %v", code, text, err)
	}
	return nil
}

func execLosesAgent(ctx context.Context, w *World) error {
	pods, err := w.Pods(ctx, "db")
	if err != nil {
		return err
	}
	if len(pods) != 1 {
		return fmt.Errorf("db has %d pods", len(pods))
	}
	host := string(pods[0].Spec.Host)
	var code int
	var out, errs string
	ended := make(chan error, 1)
	go func() {
		var err error
		code, out, errs, err = w.status(ctx, nil, "exec", "-p", Project, "db", "--", "sh", "-c", "echo $$ > /tmp/on; sleep 600")
		ended <- err
	}()
	seen := Until(ctx, Patience, func() error {
		_, err := w.Gear(ctx, "exec", "-p", Project, "db", "--", "cat", "/tmp/on")
		return err
	})
	if seen == nil {
		_, seen = w.Exec(ctx, host, "systemctl", "kill", "--signal=KILL", "gear-agent.service")
	}
	start := time.Now()
	if err := errors.Join(seen, <-ended); err != nil {
		return err
	}
	if code != 255 || !strings.Contains(errs, "the connection to the agent of host "+host+" was lost") {
		return fmt.Errorf("exit status %d, %q, %q", code, out, errs)
	}
	w.Say("told after %.1f s: %s", time.Since(start).Seconds(), strings.TrimSpace(errs))
	return Until(ctx, Patience, func() error {
		_, err := w.Gear(ctx, "exec", "-p", Project, "db", "--", "sh", "-c", "kill -HUP $(cat /tmp/on); rm -f /tmp/on")
		return err
	})
}

func forwardRedis(ctx context.Context, w *World) error {
	const session = `gear port-forward -p guestbook db 16379:6379 & forward=$!
for i in $(seq 1000); do (: <>/dev/tcp/127.0.0.1/16379) 2>/dev/null && break; sleep 0.1; done
exec 3<>/dev/tcp/127.0.0.1/16379 4<>/dev/tcp/127.0.0.1/16379
printf 'ECHO four\r\n' >&4; printf 'ECHO three\r\n' >&3
head -n 2 <&4; head -n 2 <&3; printf 'QUIT\r\n' >&3; cat <&3
kill -INT $forward; wait $forward`
	out, err := w.Exec(ctx, "h1", "bash", "-c", session+"; true")
	if want := "$4 four $5 three +OK"; err != nil || strings.Join(strings.Fields(out), " ") != want {
		return fmt.Errorf("redis says %q: %v", out, err)
	}
	return nil
}

func copyThereAndBack(ctx context.Context, w *World) error {
	_, err := w.Exec(ctx, "h1", "sh", "-ec", `cd $(mktemp -d)
mkdir -p site/deep; head -c 3000000 /dev/urandom > site/deep/blob; echo hello > site/page; chmod 640 site/page; ln -s deep/blob site/link; touch site/empty
gear cp -p guestbook site db:/tmp
test "$(gear exec -p guestbook db -- cat /tmp/site/page)" = hello
gear cp -p guestbook db:/tmp/site back
diff -r site back; test "$(stat -c %a back/page)" = 640; test "$(readlink back/link)" = deep/blob
gear cp -p guestbook site/page db:/tmp/renamed; gear cp -p guestbook db:/tmp/renamed .; cmp renamed site/page
mkdir back/more; ln -s /etc/passwd back/more/out; if gear cp -p guestbook back/more db:/tmp 2>err; then echo "a link out was copied"; exit 1; fi
gear exec -p guestbook db -- rm -r /tmp/site /tmp/renamed; rm -r "$PWD"`)
	return err
}

// twice is a container that fails once and then stays; redis counts for it.
const twice = `
kind: Service
metadata: {name: twice, project: guestbook}
spec:
  containers:
    - image: registry.lab:5000/guestbook/redis:1
      command: ["sh", "-c", "n=$(redis-cli incr twice); echo this is run $n; [ $n -ge 2 ] || exit 3; exec sleep 1000"]
  links: [{service: db, localPort: 6379}]
`

func logsOfThePast(ctx context.Context, w *World) error {
	if _, err := w.Gear(ctx, "exec", "-p", Project, "db", "--", "redis-cli", "del", "twice"); err != nil {
		return err
	}
	if _, err := w.Apply(ctx, twice, "--no-wait"); err != nil {
		return err
	}
	shows := func(want, without string, args ...string) error {
		return Until(ctx, Patience, func() error {
			out, err := w.Gear(ctx, append([]string{"logs", "-p", Project}, args...)...)
			if err == nil && (!strings.Contains(out, want) || without != "" && strings.Contains(out, without)) {
				err = fmt.Errorf("gear logs %s shows %q; want %q and not %q", strings.Join(args, " "), out, want, without)
			}
			return err
		})
	}
	if err := shows("this is run 2", "", "twice"); err != nil {
		return err
	}
	pods, err := w.Pods(ctx, "twice")
	if err != nil {
		return err
	}
	pod := string(pods[0].Metadata.Name)
	if err := errors.Join(
		shows("this is run 1", "this is run 2", "twice", "--previous"),
		shows("this is run 2", "this is run 1", "twice", "-n", "1", "--grep", "this is run"),
		shows(pod+" systemd", "", pod, "--system"),
		shows("h1 geard", "", "--host", "h1", "--unit", "gear-agent", "-n", "5"),
	); err != nil {
		return err
	}
	if _, err := w.Gear(ctx, "delete", "service", "twice", "-p", Project, "--confirm", "twice"); err != nil {
		return err
	}
	gone := Until(ctx, Patience, func() error {
		pods, err := w.Pods(ctx, "twice")
		if err == nil && len(pods) > 0 {
			err = fmt.Errorf("it still has pods: %s", phases(pods))
		}
		return err
	})
	return errors.Join(gone, shows("this is run 1", "", pod), shows("this is run 2", "", pod))
}
