package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/story"
	"gearmesh.dev/internal/pki"
)

// F16: join tokens that are no good.

// intruder is the name that F16 wants for its host; h1 is where the master is that it asks.
const intruder = "f16"

// tokenRecords is what the master may write of a flood of wrong tokens.
const tokenRecords = 40

// shown is a token that is no good, and what the answer and the audit record have to say of it.
type shown struct {
	what, token  string
	path         string // of the API
	status       int
	answer, word string
}

// wrongTokens is F16: tokens that are replayed, expired, of another CA, or not for what they are shown for.
func wrongTokens(ctx context.Context, r *rig) ([]figures.Row, error) {
	c, trust, err := r.admin(ctx)
	if err != nil {
		return nil, err
	}
	at, err := r.address(ctx, "h1")
	if err != nil {
		return nil, err
	}
	g := &guest{rig: r, server: c.Server, web: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: trust}}}
	list, err := g.wrongOnes(ctx)
	if err != nil {
		return nil, err
	}
	before, err := g.known(ctx)
	if err != nil {
		return nil, err
	}
	since, err := r.sh(ctx, "h1", `date +%s`)
	if err != nil {
		return nil, err
	}
	refused, unclear := 0, 0
	for _, s := range list {
		status, text, err := g.show(ctx, s.path, s.token)
		if err != nil {
			return nil, err
		}
		r.say("F16 %-24s %d %s", s.what, status, text)
		if status == s.status {
			refused++
		}
		if !strings.Contains(text, s.answer) {
			unclear++
		}
	}
	// The client's side of a wrong pin: it tells this before it sends anything.
	if _, err := pki.FetchCA(ctx, netip.AddrPortFrom(at, 7443).String(), wrongPin()); err == nil {
		unclear++
	}
	return g.judge(ctx, list, before, strings.TrimSpace(since), refused, unclear)
}

// judge gives the rows.
func (g *guest) judge(ctx context.Context, list []shown, before, since string, refused, unclear int) ([]figures.Row, error) {
	audit, err := g.audit(ctx, since)
	if err != nil {
		return nil, err
	}
	missing := 0
	for _, s := range list {
		if !strings.Contains(audit, s.word) {
			g.say("F16 %s: no record says %q", s.what, s.word)
			missing++
		}
	}
	for range manyWrong {
		if _, _, err := g.show(ctx, "/v1/join", "hello"); err != nil {
			return nil, err
		}
	}
	flood, err := g.audit(ctx, since)
	if err != nil {
		return nil, err
	}
	after, err := g.known(ctx)
	if err != nil {
		return nil, err
	}
	changed := 0.0
	if after != before {
		changed = 1
	}
	return []figures.Row{
		figures.Row{ID: "F16", What: fmt.Sprintf("of %d tokens that are no good (replayed, expired, another CA's, a host's for a master), refused", len(list)), Value: float64(refused), Unit: "tokens"}.
			WithGoal(fmt.Sprintf("%d tokens", len(list)), refused == len(list)),
		figures.Row{ID: "F16.clear", What: "of them, and of a client that is shown another CA, without a clear error", Value: float64(unclear), Unit: "answers"}.AtMost(0),
		figures.Row{ID: "F16.audit", What: "of them, without an audit record of who, from where and why", Value: float64(missing), Unit: "tokens"}.AtMost(0),
		figures.Row{ID: "F16.flood", What: fmt.Sprintf("audit records of all that and %d more wrong tokens from one address", manyWrong), Value: float64(strings.Count(flood, "/v1/join") + strings.Count(flood, "POST /v1/masters")), Unit: "records"}.AtMost(tokenRecords),
		figures.Row{ID: "F16.stored", What: "hosts and masters that are others than before", Value: changed, Unit: "lists"}.AtMost(0),
	}, g.leave(ctx)
}

// guest is somebody with a token.
type guest struct {
	*rig
	server string
	web    *http.Client
}

// wrongOnes makes the tokens: one is used, and for another the master's clock stands after its end for a moment.
func (g *guest) wrongOnes(ctx context.Context) ([]shown, error) {
	var tokens []string
	for range 3 {
		var t api.JoinToken
		if err := g.JSON(ctx, &t, "token", "create"); err != nil {
			return nil, err
		}
		tokens = append(tokens, t.Token)
	}
	status, text, err := g.show(ctx, "/v1/join", tokens[0])
	if err != nil || status != http.StatusCreated {
		return nil, errors.Join(err, fmt.Errorf("using a good token: %d %s", status, text))
	}
	old, err := g.expired(ctx)
	if err != nil {
		return nil, err
	}
	parts := strings.Split(tokens[1], ".")
	const join, denied = "/v1/join", http.StatusUnauthorized
	return []shown{
		{"replayed", tokens[0], join, denied, "used already", "used already by host " + intruder},
		{"expired", old, join, denied, "ran out at", "it ran out at"},
		{"another CA's", parts[0] + "." + parts[1] + "." + wrongPin(), join, denied, "not this cluster's", "pins another CA"},
		{"with another secret", parts[0] + "." + pki.NewSecret() + "." + parts[2], join, denied, "not known", "secret is not the token's"},
		{"a host's for a master", tokens[2], "/v1/masters", http.StatusForbidden, "not a master", "for a host, not for a master"},
	}, nil
}

// expired gives a token that ran out: it was made while the master's clock was half an hour behind.
func (g *guest) expired(ctx context.Context) (string, error) {
	if _, err := g.sh(ctx, "h1", `grep -q /run/clock-step /usr/local/bin/geard && { [ -s /run/clock-step ] || { head -c 8 /dev/zero >/run/clock-step; systemctl restart gear-master; }; }`); err != nil {
		return "", fmt.Errorf("geard has no clock that can be stepped: make faults builds one: %w", err)
	}
	if err := g.leads(ctx); err != nil {
		return "", err
	}
	if err := g.step(ctx, step{"h1", -30 * time.Minute}); err != nil {
		return "", err
	}
	var t api.JoinToken
	err := g.JSON(ctx, &t, "token", "create")
	return t.Token, errors.Join(err, g.step(ctx, step{"h1", 0}))
}

// wrongPin is the pin of no CA.
func wrongPin() string { return pki.NewSecret() }

// show asks to join, or to become a master, and gives the status and what the answer says.
func (g *guest) show(ctx context.Context, path, token string) (int, string, error) {
	key, err := pki.NewKey()
	if err != nil {
		return 0, "", err
	}
	csr, err := pki.NewRequest(key)
	if err != nil {
		return 0, "", err
	}
	address := netip.MustParseAddr("192.0.2.16") // of nobody (RFC 5737)
	var body any = api.JoinRequest{Token: token, Name: intruder, Address: address, CSR: string(csr)}
	if path != "/v1/join" {
		body = api.MasterJoin{Token: token, Name: intruder, Address: address}
	}
	data, err := json.Marshal(body)
	if err != nil {
		return 0, "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.server+path, bytes.NewReader(data))
	if err != nil {
		return 0, "", err
	}
	resp, err := g.web.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }() // it has been read
	text, err := io.ReadAll(resp.Body)
	var problem api.Error
	if resp.StatusCode >= 400 && json.Unmarshal(text, &problem) == nil {
		return resp.StatusCode, problem.Detail, err
	}
	return resp.StatusCode, "", err
}

// known gives the names of hosts and masters, as the API tells them.
func (g *guest) known(ctx context.Context) (string, error) {
	var hosts api.List[api.Host]
	var masters api.MasterList
	if err := errors.Join(g.JSON(ctx, &hosts, "get", "hosts"), g.JSON(ctx, &masters, "master", "list")); err != nil {
		return "", err
	}
	var b strings.Builder
	for _, h := range hosts.Items {
		fmt.Fprintf(&b, "host %s %s\n", h.Metadata.Name, h.Metadata.UID)
	}
	for _, m := range masters.Items {
		fmt.Fprintf(&b, "master %s %s\n", m.Name, m.State)
	}
	return b.String(), nil
}

// audit gives the audit records of h1's master since a time.
func (r *rig) audit(ctx context.Context, since string) (string, error) {
	return r.sh(ctx, "h1", `journalctl -q -o cat --since "@$1" -u gear-master.service | grep log=audit || true`, since)
}

// leave takes the host away that the good token made.
func (g *guest) leave(ctx context.Context) error {
	if _, err := g.Gear(ctx, "delete", "host", intruder, "--confirm", intruder); err != nil {
		return err
	}
	return story.Until(ctx, time.Minute, func() error {
		if _, err := g.Gear(ctx, "get", "host", intruder); err == nil {
			return fmt.Errorf("host %s is still there", intruder)
		}
		return nil
	})
}
