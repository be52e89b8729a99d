package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"gearmesh.dev/api"
)

// ErrSilent is why a host's stream is given up that has said nothing for Config.Silence.
var ErrSilent = errors.New("the master says nothing any more")

// errNoAnswer is why an attempt is given up.
var errNoAnswer = errors.New("no answer in time")

// ConnectError is a request that got no answer, or none that makes sense.
type ConnectError struct {
	Server string // as Client.Server gives it
	Err    error
}

// Error implements error. It ends with the next step.
func (e *ConnectError) Error() string {
	return fmt.Sprintf("the master at %s cannot be reached: %v; %s", e.Server, e.Err, e.next())
}

// Unwrap gives the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// next says what to do about it.
func (e *ConnectError) next() string {
	var cert *tls.CertificateVerificationError
	var garbage *answerError
	switch text := e.Err.Error(); {
	case errors.As(e.Err, &cert):
		return "check the address, and that the CA on record is this cluster's"
	case errors.As(e.Err, &garbage), strings.Contains(text, "server gave HTTP response"), strings.Contains(text, "first record does not look like a TLS handshake"):
		return "something else listens there; check the address and the port"
	case strings.Contains(text, "remote error: tls:"):
		return "it refuses this host's certificate: it has run out, or the host was deleted; join again"
	}
	return "is the master running? On its host: systemctl status gear-master"
}

// permanent tells whether trying again is of no use.
func (e *ConnectError) permanent() bool {
	var cert *tls.CertificateVerificationError
	var garbage *answerError
	return errors.As(e.Err, &cert) || errors.As(e.Err, &garbage) && !garbage.cut || strings.Contains(e.Err.Error(), "remote error: tls:")
}

// unsent tells whether nothing can have reached the master.
func (e *ConnectError) unsent() bool {
	var op *net.OpError
	return errors.As(e.Err, &op) && op.Op == "dial"
}

// answerError is an answer that is not one of a master.
type answerError struct {
	what string
	cut  bool // it ended too early, so that another attempt may get the rest
	err  error
}

func (e *answerError) Error() string {
	if e.err == nil {
		return e.what
	}
	return fmt.Sprintf("%s: %v", e.what, e.err)
}
func (e *answerError) Unwrap() error { return e.err }

// connectError wraps why there was no answer. The cause of the context says more than that it
// has ended.
func (c *Client) connectError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return &ConnectError{Server: c.Server(), Err: err}
}

// problem reads an answer that is an error.
func (c *Client) problem(res *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(res.Body, maxError))
	var out api.Error
	if json.Unmarshal(body, &out) == nil && out.Code != "" {
		return &answered{problem: &out, after: retryAfter(res.Header)}
	}
	if err != nil {
		return &ConnectError{Server: c.Server(), Err: &answerError{"reading its answer " + res.Status, true, err}}
	}
	if res.StatusCode >= 502 && res.StatusCode <= 504 { // of a proxy before the master
		return &answered{problem: api.Errorf(api.CodeUnavailable, "the master at %s is not ready: %s", c.Server(), res.Status), after: retryAfter(res.Header)}
	}
	return &ConnectError{Server: c.Server(), Err: &answerError{what: fmt.Sprintf("it answers %s with %.60q, which is none of a master's errors", res.Status, bytes.TrimSpace(body))}}
}

// answered is an error of the master with the wait it asks for; callers get the *api.Error.
type answered struct {
	problem *api.Error
	after   time.Duration
}

// Error implements error.
func (a *answered) Error() string { return a.problem.Error() }

// plain gives callers the error without what only the retries need.
func plain(err error) error {
	var a *answered
	if errors.As(err, &a) {
		return a.problem
	}
	return err
}

// unplain is the inverse of plain, as far as another master is concerned.
func unplain(err error) error {
	var e *api.Error
	if errors.As(err, &e) {
		return &answered{problem: e}
	}
	return err
}

// retryAfter reads the header of that name, in seconds (RFC 9110, section 10.2.3).
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 || n > 3600 {
		return 0
	}
	return time.Duration(n) * time.Second
}
