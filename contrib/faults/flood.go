package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gearmesh.dev/contrib/figures"
)

// What F22 sends from this machine, which is a stranger to the hosts.
const (
	floodTime  = 5 * time.Second
	floodRate  = 10_000 // queries a second
	slowNumber = 200    // connections that send half of something
	manyWrong  = 150    // requests with a wrong token
)

// floods is F22: a flood of DNS queries, slow clients of DNS and API, bodies that are too big or too deep.
func floods(ctx context.Context, r *rig) ([]figures.Row, error) {
	at, err := r.address(ctx, "h1")
	if err != nil {
		return nil, err
	}
	rows, err := r.floodNames(ctx, at)
	if err != nil {
		return rows, err
	}
	more, err := r.floodMaster(ctx, at)
	return append(rows, more...), err
}

// floodNames is the part about DNS: what a stranger gets, and what a member of the cluster notices.
func (r *rig) floodNames(ctx context.Context, at netip.Addr) ([]figures.Row, error) {
	var full, cut int
	missed, err := r.beside(ctx, at, "", func() (err error) {
		full, cut, err = flood(netip.AddrPortFrom(at, 53))
		return err
	})
	if err != nil {
		return nil, err
	}
	kept := 0
	missedTCP, err := r.beside(ctx, at, "+tcp", func() (err error) {
		kept, err = slowClients(netip.AddrPortFrom(at, 53), []byte{0}, floodTime/2)
		return err
	})
	if err != nil {
		return nil, err
	}
	bound := 100 * (int(floodTime.Seconds()) + 2)
	return []figures.Row{
		figures.Row{ID: "F22.dns", What: "whole answers to a stranger's " + strconv.Itoa(floodRate*int(floodTime.Seconds())) + " DNS queries in " + floodTime.String(), Value: float64(full), Unit: "answers"}.AtMost(float64(bound)),
		figures.Row{ID: "F22.tc", What: "of the others, answered with TC and nothing else", Value: float64(cut), Unit: "answers"}.WithGoal("> 0", cut > 0),
		figures.Row{ID: "F22.member", What: "a host's own queries without an answer meanwhile", Value: float64(missed), Unit: "queries"}.AtMost(0),
		figures.Row{ID: "F22.tcp", What: strconv.Itoa(slowNumber) + " slow TCP clients at one address: those that are still connected after half the time", Value: float64(kept), Unit: "connections"}.AtMost(32),
		figures.Row{ID: "F22.tcpmember", What: "a host's own queries over TCP without an answer meanwhile", Value: float64(missedTCP), Unit: "queries"}.AtMost(0),
	}, nil
}

// beside does harm, and gives how many of a member's queries had no answer meanwhile. Each is tried twice, as resolvers do.
func (r *rig) beside(ctx context.Context, server netip.Addr, option string, harm func() error) (missed int, err error) {
	done := make(chan error, 1)
	go func() { done <- harm() }()
	for {
		out, err := r.sh(ctx, "h2", `n=0; for i in 1 2 3 4 5 6 7 8 9 10; do
			dig $2 +short +tries=2 +time=2 "@$1" h1.host.gear.internal | grep -qx "$1" || n=$((n+1)); done; echo $n`, server.String(), option)
		if err != nil {
			return missed, errors.Join(err, <-done)
		}
		n, err := strconv.Atoi(strings.TrimSpace(out))
		if missed += n; err != nil {
			return missed, errors.Join(err, <-done)
		}
		select {
		case err := <-done:
			return missed, err
		default:
		}
	}
}

// flood sends queries at a fixed rate, and counts whole answers and cut ones.
func flood(to netip.AddrPort) (full, cut int, err error) {
	c, err := net.Dial("udp", to.String())
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	var whole, short atomic.Int64
	var reading sync.WaitGroup
	reading.Go(func() {
		for buf := make([]byte, 1500); ; {
			n, err := c.Read(buf)
			switch {
			case err != nil:
				return
			case n > 2 && buf[2]&2 != 0: // TC (RFC 1035, section 4.1.1)
				short.Add(1)
			default:
				whole.Add(1)
			}
		}
	})
	query := []byte("\x00\x07\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02h1\x04host\x04gear\x08internal\x00\x00\x01\x00\x01")
	for start, sent := time.Now(), 0; time.Since(start) < floodTime; time.Sleep(time.Millisecond) {
		for ; sent < int(time.Since(start).Seconds()*floodRate); sent++ {
			if _, err := c.Write(query); err != nil {
				return 0, 0, err
			}
		}
	}
	time.Sleep(200 * time.Millisecond) // for the last answers
	c.Close()
	reading.Wait()
	return int(whole.Load()), int(short.Load()), nil
}

// slowClients connects many times, sends the beginning of something each time, and gives how many are still
// connected after a while.
func slowClients(to netip.AddrPort, begin []byte, hold time.Duration) (kept int, err error) {
	var all []net.Conn
	defer func() {
		for _, c := range all {
			c.Close()
		}
	}()
	for range slowNumber {
		c, err := net.DialTimeout("tcp", to.String(), 5*time.Second)
		if err != nil {
			return 0, err
		}
		all = append(all, c)
		_, _ = c.Write(begin) // it may be closed already
	}
	time.Sleep(hold)
	for _, c := range all {
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
		var timeout net.Error
		if _, err := io.Copy(io.Discard, c); errors.As(err, &timeout) && timeout.Timeout() {
			kept++
		}
	}
	return kept, nil
}

// floodMaster is the part about the API.
func (r *rig) floodMaster(ctx context.Context, at netip.Addr) ([]figures.Row, error) {
	send, err := r.sender(ctx)
	if err != nil {
		return nil, err
	}
	before, err := r.masterMemory(ctx)
	if err != nil {
		return nil, err
	}
	kept, err := slowClients(netip.AddrPortFrom(at, 7443), []byte{0x16}, 8*time.Second)
	if err != nil {
		return nil, err
	}
	body := &endless{left: 10 << 30}
	big, err := send("right", body, 10<<30)
	if err != nil {
		return nil, err
	}
	deep, err := send("right", strings.NewReader(strings.Repeat("[", 900_000)), 900_000)
	if err != nil {
		return nil, err
	}
	limited := 0
	for range manyWrong {
		code, err := send("wrong", strings.NewReader("[]"), 2)
		if err != nil {
			return nil, err
		}
		if code == http.StatusTooManyRequests {
			limited++
		}
	}
	right, err := send("right", strings.NewReader("[]"), 2)
	if err != nil {
		return nil, err
	}
	after, err := r.masterMemory(ctx)
	return []figures.Row{
		figures.Row{ID: "F22.loris", What: strconv.Itoa(slowNumber) + " API clients that begin and go silent: those that are still connected after 8 s", Value: float64(kept), Unit: "connections"}.AtMost(0),
		figures.Row{ID: "F22.body", What: "a body of 10 GB: status of the answer", Value: float64(big), Unit: "status"}.WithGoal("413", big == http.StatusRequestEntityTooLarge),
		figures.Row{ID: "F22.read", What: "of it, sent before the answer", Value: float64(body.sent.Load()) / (1 << 20), Unit: "MiB"}.AtMost(64),
		figures.Row{ID: "F22.deep", What: "JSON of 900,000 open brackets: status of the answer", Value: float64(deep), Unit: "status"}.WithGoal("422", deep == http.StatusUnprocessableEntity),
		figures.Row{ID: "F22.wrong", What: fmt.Sprintf("of %d requests with a wrong token, answered with 429", manyWrong), Value: float64(limited), Unit: "answers"}.WithGoal("> 0", limited > 0),
		figures.Row{ID: "F22.right", What: "the right token from the same address then: status (of a body that is no object)", Value: float64(right), Unit: "status"}.WithGoal("422", right == http.StatusUnprocessableEntity),
		figures.Row{ID: "F22.memory", What: "memory of the master, more than before", Value: max(0, after-before), Unit: "MiB"}.AtMost(64),
	}, err
}

// endless is a body that counts what is read of it.
type endless struct {
	left int64
	sent atomic.Int64
}

// Read implements io.Reader.
func (e *endless) Read(p []byte) (int, error) {
	n := min(int64(len(p)), e.left)
	if n == 0 {
		return 0, io.EOF
	}
	clear(p[:n])
	e.left -= n
	e.sent.Add(n)
	return int(n), nil
}

// sender gives a function that puts a project from this machine, with the administrator's token or with a wrong one,
// and gives the status of the answer.
func (r *rig) sender(ctx context.Context) (func(token string, body io.Reader, size int64) (int, error), error) {
	c, trust, err := r.admin(ctx)
	if err != nil {
		return nil, err
	}
	web := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: trust}}
	return func(token string, body io.Reader, size int64) (int, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, c.Server+"/v1/projects/flood", body)
		if err != nil {
			return 0, err
		}
		req.ContentLength = size
		req.Header.Set("Content-Type", "application/json")
		if token == "right" {
			token = c.Token
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := web.Do(req)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		return resp.StatusCode, nil
	}, nil
}

// masterMemory gives the memory of the master in MiB: what of it is in memory now.
func (r *rig) masterMemory(ctx context.Context) (float64, error) {
	out, err := r.sh(ctx, "h1", `awk '/^VmRSS:/ { print $2 }' "/proc/$(systemctl show -P MainPID gear-master)/status"`)
	if err != nil {
		return 0, err
	}
	kib, err := strconv.Atoi(strings.TrimSpace(out))
	return float64(kib) / 1024, err
}
