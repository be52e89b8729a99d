package client

import (
	"context"
	"errors"
	"net/http"

	"gearmesh.dev/api"
	"gearmesh.dev/client/session"
)

// The kinds of sessions: the last element of their paths.
const (
	SessionExec    = "exec"    // the first frame is an api.ExecRequest
	SessionForward = "forward" // an api.ForwardRequest
	SessionFiles   = "files"   // an api.CopyRequest
)

// Session opens a session in a pod and sends its first frame. The caller closes it.
func (c *Client) Session(ctx context.Context, project, pod api.Name, kind string, first any) (*session.Conn, error) {
	u := c.servers.now()
	u.Path = "/v1/projects/" + string(project) + "/pods/" + string(pod) + "/" + kind
	header := http.Header{}
	if c.cfg.Token != "" {
		header.Set("Authorization", "Bearer "+c.cfg.Token)
	}
	s, err := session.Dial(ctx, c.http, u.String(), header)
	var refused *api.Error
	switch {
	case errors.As(err, &refused):
		return nil, refused
	case err != nil:
		c.elsewhere(c.servers.now(), &ConnectError{Err: err})
		return nil, c.connectError(ctx, err)
	}
	if err := s.SendJSON(first); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}
