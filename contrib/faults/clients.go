package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/internal/clientconfig"
	"gearmesh.dev/internal/pki"
)

const (
	historyTime    = 90 * time.Second
	historyClients = 8
	historyKeys    = 6
)

// registers is a client of the masters that uses projects as registers: a label is the value.
type registers struct {
	http  *http.Client
	token string
	addrs []netip.Addr
}

// newRegisters takes the administrator's identity from h1.
func (r *rig) newRegisters(ctx context.Context) (*registers, error) {
	c, trust, err := r.admin(ctx)
	if err != nil {
		return nil, err
	}
	out := &registers{token: c.Token, http: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: historyClients, TLSClientConfig: trust}}}
	for _, h := range hosts() {
		out.addrs = append(out.addrs, r.Address(h))
	}
	return out, nil
}

// admin gives h1's administrator's cluster, and what trusts its masters.
func (r *rig) admin(ctx context.Context) (clientconfig.Context, *tls.Config, error) {
	text, err := r.sh(ctx, "h1", "cat /root/.config/gear/config.json")
	if err != nil {
		return clientconfig.Context{}, nil, err
	}
	var f clientconfig.File
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		return clientconfig.Context{}, nil, fmt.Errorf("reading the administrator's configuration of h1: %w", err)
	}
	c, err := f.Context("")
	if err != nil {
		return clientconfig.Context{}, nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(c.CA))
	return c, &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: pki.MasterName}, nil
}

// document is what is needed of a project.
type document struct {
	Metadata struct {
		Revision int64             `json:"revision,omitempty"`
		Labels   map[string]string `json:"labels,omitempty"`
	} `json:"metadata"`
}

// answer is what a master said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// call asks one master.
func (c *registers) call(ctx context.Context, method string, at netip.Addr, path string, body any) (document, int, error) {
	var d document
	a, err := c.ask(ctx, method, at, path, "", body)
	if err == nil && a.status/100 == 2 {
		err = json.Unmarshal(a.body, &d)
	}
	return d, a.status, err
}

// ask sends a request, with an idempotency key when it is not empty, to one master, and gives the whole answer.
func (c *registers) ask(ctx context.Context, method string, at netip.Addr, path, key string, body any) (answer, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+netip.AddrPortFrom(at, 7443).String()+path, bytes.NewReader(data))
	if err != nil {
		return answer{}, err
	}
	if body == nil {
		req.Body, req.ContentLength = http.NoBody, 0
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{status: resp.StatusCode, header: resp.Header, body: text}, err
}

// work writes and reads until ctx ends, each time through a master at random.
func (c *registers) work(ctx context.Context, h *history, client int) {
	for n := 0; ctx.Err() == nil; n++ {
		a := access{key: fmt.Sprintf("reg%d", rand.N(historyKeys)), write: rand.N(2) == 0}
		at := c.addrs[rand.N(len(c.addrs))]
		if a.write {
			a.value = fmt.Sprintf("c%d-%d", client, n)
			c.write(ctx, h, at, a)
		} else {
			c.read(ctx, h, at, a)
		}
		time.Sleep(rand.N(60 * time.Millisecond))
	}
}

func (c *registers) write(ctx context.Context, h *history, at netip.Addr, a access) {
	var body document
	body.Metadata.Labels = map[string]string{"value": a.value}
	a.call = h.now()
	d, status, err := c.call(ctx, http.MethodPut, at, "/v1/projects/"+a.key, body)
	a.done = h.now()
	a.unknown = err != nil || status/100 != 2
	a.revision = d.Metadata.Revision
	h.add(a)
}

func (c *registers) read(ctx context.Context, h *history, at netip.Addr, a access) {
	a.call = h.now()
	d, status, err := c.call(ctx, http.MethodGet, at, "/v1/projects/"+a.key+"?fresh=1", nil)
	a.done = h.now()
	if err != nil || status/100 != 2 {
		return // it says nothing; before the first write there is nothing either
	}
	a.value, a.revision = d.Metadata.Labels["value"], d.Metadata.Revision
	h.add(a)
}

// writeThroughFaults is the history check: clients write and read through all three masters while these are
// killed, stopped and cut off from each other. What was acknowledged is there, in one order for all.
func writeThroughFaults(ctx context.Context, r *rig) (rows []figures.Row, err error) {
	c, err := r.newRegisters(ctx)
	if err != nil {
		return nil, err
	}
	h := &history{start: time.Now()}
	for k := range historyKeys { // a register begins empty
		var d document
		d, status, err := c.call(ctx, http.MethodPut, c.addrs[0], fmt.Sprintf("/v1/projects/reg%d", k), document{})
		if err != nil || status/100 != 2 {
			return nil, fmt.Errorf("making register %d: %d, %w, %v", k, status, err, d)
		}
	}
	limit, cancel := context.WithTimeout(ctx, historyTime)
	defer cancel()
	var work sync.WaitGroup
	for i := range historyClients {
		work.Go(func() { c.work(limit, h, i) })
	}
	harm, err := r.harmMasters(limit)
	work.Wait()
	if err = errors.Join(err, r.leads(ctx)); err != nil {
		return nil, err
	}
	for k := range historyKeys { // and at the end all masters agree
		for _, at := range c.addrs {
			c.read(ctx, h, at, access{key: fmt.Sprintf("reg%d", k)})
		}
	}
	c.http.CloseIdleConnections() // the masters would keep theirs for two minutes
	return historyRows(h, harm), nil
}

func historyRows(h *history, harm int) []figures.Row {
	acked, unknown, reads := 0, 0, 0
	for _, a := range h.list {
		switch {
		case a.unknown:
			unknown++
		case a.write:
			acked++
		default:
			reads++
		}
	}
	breaches := 0
	what := fmt.Sprintf("%d writes acknowledged, %d not, %d reads through 3 masters, %d times killed, stopped or split: breaches of one order", acked, unknown, reads, harm)
	if err := judge(h.list); err != nil {
		breaches, what = 1, what+": "+err.Error()
	}
	return []figures.Row{
		figures.Row{ID: "HIST", What: what, Value: float64(breaches), Unit: "breaches"}.WithGoal("0 breaches", breaches == 0 && acked > 100 && reads > 100),
	}
}

// harmMasters kills, stops and cuts off a master at random, one after another, until ctx ends. It leaves them whole.
func (r *rig) harmMasters(ctx context.Context) (times int, err error) {
	lasting := context.WithoutCancel(ctx)
	for ; ctx.Err() == nil && err == nil; times++ {
		host := hosts()[rand.N(len(hosts()))]
		if leader, err := r.Leader(lasting); err == nil && rand.N(2) == 0 {
			host = leader // it is the one that hurts
		}
		switch times % 3 {
		case 0:
			err = r.signalMaster(lasting, host, "KILL") // systemd starts it again
			time.Sleep(4 * time.Second)
		case 1:
			err = r.signalMaster(lasting, host, "STOP")
			time.Sleep(9 * time.Second)
			err = errors.Join(err, r.signalMaster(lasting, host, "CONT"))
		case 2:
			err = r.cutStore(lasting, host, true)
			time.Sleep(9 * time.Second)
			err = errors.Join(err, r.cutStore(lasting, host, false))
		}
		time.Sleep(3 * time.Second)
	}
	return times, err
}
