package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/atomicfile"
	"gearmesh.dev/internal/loop"
	"gearmesh.dev/internal/pki"
)

// Joining by approval: a host asks with one key until a person has judged it.

// waitFile keeps the key of a host that waits for approval (0400), so that it asks on with the same one after a break.
const waitFile = "joining.json"

// tellEvery is how often a host that waits says so.
const tellEvery = time.Minute

// waiting is what joining.json holds.
type waiting struct {
	Token string `json:"token"` // its id: another token has another key
	Key   string `json:"key"`   // PEM
}

// waiter asks for a host's identity until it has it.
type waiter struct {
	*installer
	path  string
	mine  waiting
	token string
}

// waiter gives the one for a token, with the key with which the host waits already or with a new one.
func (i *installer) waiter(dir, token string) (*waiter, error) {
	t, err := pki.ParseToken(token)
	if err != nil {
		return nil, err
	}
	w := &waiter{installer: i, path: filepath.Join(dir, waitFile), token: token}
	text, err := os.ReadFile(w.path)
	if err == nil && json.Unmarshal(text, &w.mine) == nil && w.mine.Token == t.ID {
		return w, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading with which key this host waits: %w", err)
	}
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	pem, err := pki.KeyPEM(key)
	w.mine = waiting{t.ID, string(pem)}
	return w, err
}

// request makes what is asked with the host's key.
func (w *waiter) request() (api.JoinRequest, error) {
	key, err := pki.ParseKey([]byte(w.mine.Key))
	if err != nil {
		return api.JoinRequest{}, fmt.Errorf("the key in %q: %w; remove the file and join anew", w.path, err)
	}
	csr, err := pki.NewRequest(key)
	return api.JoinRequest{Token: w.token, Name: w.Name, Address: w.Address, Labels: w.Labels, CSR: string(csr)}, err
}

// ask asks until there is an identity or a refusal. While a person is waited for, a master that does not answer is asked again.
func (w *waiter) ask(ctx context.Context, c *caller) (api.Identity, []byte, error) {
	req, err := w.request()
	if err != nil {
		return api.Identity{}, nil, err
	}
	var until, told time.Time
	for {
		var got api.Identity
		err := c.call(ctx, "POST", "/v1/join", req, &got)
		switch {
		case err == nil && got.Pending == nil:
			return got, []byte(w.mine.Key), nil
		case err == nil:
			if until.IsZero() {
				if err := w.keep(); err != nil {
					return api.Identity{}, nil, err
				}
			}
			until = got.Pending.Until
			if time.Since(told) > tellEvery {
				told = time.Now()
				w.tell(*got.Pending)
			}
		case !again(err) || time.Now().After(until):
			return api.Identity{}, nil, w.end(err)
		}
		if !loop.Sleep(ctx, w.Poll) {
			return api.Identity{}, nil, fmt.Errorf("waiting for approval: %w; run it again to wait on", ctx.Err())
		}
	}
}

// keep writes the key down.
func (w *waiter) keep() error {
	if err := private(filepath.Dir(w.path)); err != nil {
		return err
	}
	return atomicfile.WriteJSON(w.path, w.mine, 0o400)
}

// tell says for what this host waits, and what an administrator has to type.
func (w *waiter) tell(p api.PendingHost) {
	if w.Progress == nil {
		return
	}
	w.Progress(Step{Name: "identity", Waits: fmt.Sprintf("for approval until %s, as host %q, address %s, key %s. An administrator types: gear host approve %s (or: gear host reject %s)",
		p.Until.Local().Format("15:04"), p.Name, p.Address, p.Fingerprint, p.Name, p.Name)})
}

// again tells whether an error may be over soon: the master did not answer, or could not do it now.
func again(err error) bool {
	var problem *api.Error
	return !errors.As(err, &problem) || problem.Code == api.CodeUnavailable || problem.Code == api.CodeRateLimited || problem.Code == api.CodeConflict
}

// end forgets the key when the master has refused the host for good.
func (w *waiter) end(err error) error {
	if again(err) {
		return err
	}
	return errors.Join(err, w.forget())
}

// forget removes the key's file: the host has its identity, or never gets it by this token.
func (w *waiter) forget() error {
	if err := os.Remove(w.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting the key with which this host waited: %w", err)
	}
	return nil
}
