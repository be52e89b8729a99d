package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
	"gearmesh.dev/internal/pki"
)

// The simulated agents of P8: how they join, listen and report.

// simAgent is what an agent is to the master: it has joined by a token, holds the stream of its desired state, and says of
// each pod it is told of that it runs. It keeps of the directory nothing: thousands are in one process.
type simAgent struct {
	fleet   *simFleet
	name    api.Name
	address netip.Addr
	http    *http.Client
	kick    chan struct{}

	mu       sync.Mutex
	pods     map[api.UID]api.Pod
	seq      int64    // grows with each change of pods
	revision int64    // of the last patch
	body     []byte   // the last report; nil when it has to be made anew
	mark     api.Name // the master's, of the report that it has taken last; "" when that is not what body says

	every api.Duration // how long it may wait, as its own loop was told last
	heard *needle      // the last needle that was found in its stream
}

// simFleet is all simulated agents.
type simFleet struct {
	m         *simMaster
	agents    []*simAgent
	connected atomic.Int64
	slots     chan struct{} // of those that connect at the same time
	needle    atomic.Pointer[needle]
	broken    atomic.Int64 // streams that ended and reports that were refused
	complain  sync.Once
	say       func(format string, args ...any)
	wg        sync.WaitGroup
}

// needle is text that is waited for in the streams of all agents.
type needle struct {
	text  []byte
	found atomic.Int64
}

// grow lets agents join until there are n.
func (f *simFleet) grow(ctx context.Context, n int) error {
	anybody, err := client.New(client.Config{Server: f.m.at, CA: f.m.ca.PEM(), ServerName: client.MasterName})
	if err != nil {
		return err
	}
	defer anybody.Close()
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	work := make(chan int)
	for range simPeople {
		wg.Go(func() {
			for i := range work {
				a, err := f.join(ctx, anybody, i)
				mu.Lock()
				if err != nil {
					errs = append(errs, err)
				} else {
					f.agents = append(f.agents, a)
				}
				mu.Unlock()
			}
		})
	}
	for i := len(f.agents); i < n; i++ {
		work <- i
	}
	close(work)
	wg.Wait()
	return errors.Join(errs...)
}

// join gives an agent its identity, and lets it run.
func (f *simFleet) join(ctx context.Context, anybody *client.Client, i int) (*simAgent, error) {
	a, cert, err := f.identity(ctx, anybody, i)
	if err != nil {
		return nil, err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // as the real client
	a.http = &http.Client{Transport: &http.Transport{Protocols: protocols, ReadBufferSize: 4 << 10, WriteBufferSize: 4 << 10,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pki.Pool(f.m.ca.Cert), ServerName: client.MasterName, Certificates: []tls.Certificate{cert}}}}
	f.wg.Go(func() { a.listen(ctx) })
	f.wg.Go(func() { a.tell(ctx) })
	return a, nil
}

// identity gives an agent its identity, the way gear join does.
func (f *simFleet) identity(ctx context.Context, anybody *client.Client, i int) (*simAgent, tls.Certificate, error) {
	var none tls.Certificate
	token, err := f.m.people[i%simPeople].CreateToken(ctx, api.TokenRequest{})
	if err != nil {
		return nil, none, err
	}
	key, err := pki.NewKey()
	if err != nil {
		return nil, none, err
	}
	csr, err := pki.NewRequest(key)
	if err != nil {
		return nil, none, err
	}
	a := &simAgent{fleet: f, name: api.Name(fmt.Sprintf("h%05d", i)), address: netip.AddrFrom4([4]byte{10, 8, byte(i >> 8), byte(i)}),
		kick: make(chan struct{}, 1), pods: map[api.UID]api.Pod{}}
	id, err := anybody.Join(ctx, api.JoinRequest{Token: token.Token, Name: a.name, Address: a.address, CSR: string(csr),
		Labels: map[string]string{"zone": fmt.Sprint("z", i%10)}})
	if err != nil {
		return nil, none, fmt.Errorf("joining as %s: %w", a.name, err)
	}
	keyPEM, err := pki.KeyPEM(key)
	if err != nil {
		return nil, none, err
	}
	cert, err := tls.X509KeyPair([]byte(id.Certificate), keyPEM)
	return a, cert, err
}

// complainOf counts what should not happen, and says the first of it.
func (f *simFleet) complainOf(ctx context.Context, a *simAgent, err error) {
	if ctx.Err() != nil {
		return
	}
	f.broken.Add(1)
	f.complain.Do(func() { f.say("%s: %v", a.name, err) })
}

// listen holds the stream, again when it ends.
func (a *simAgent) listen(ctx context.Context) {
	for ctx.Err() == nil {
		err := a.stream(ctx)
		a.fleet.complainOf(ctx, a, err)
		_ = sleep(ctx, rand.N(time.Second))
	}
}

func (a *simAgent) url(what string) string {
	return "https://" + a.fleet.m.at + "/v1/hosts/" + string(a.name) + "/" + what
}

func (a *simAgent) stream(ctx context.Context) error {
	a.fleet.slots <- struct{}{}
	leave := sync.OnceFunc(func() { <-a.fleet.slots })
	defer leave()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url("desired"), nil)
	if err != nil {
		return err
	}
	req.Header.Set(api.PacedHeader, "1")
	resp, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("its stream is %s", resp.Status)
	}
	in := bufio.NewReader(resp.Body)
	for first := true; ; first = false {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return err
		}
		if err := a.take(line); err != nil {
			return err
		}
		if first {
			leave()
			a.fleet.connected.Add(1)
			defer a.fleet.connected.Add(-1)
		}
	}
}

// take takes a patch. Only what it says of pods is decoded.
func (a *simAgent) take(line []byte) error {
	if n := a.fleet.needle.Load(); n != nil && n != a.heard && bytes.Contains(line, n.text) {
		a.heard = n
		n.found.Add(1)
	}
	if _, rest, ok := bytes.Cut(line[:min(len(line), 100)], []byte(`"revision":`)); ok {
		var revision int64
		_, _ = fmt.Sscan(string(rest[:bytes.IndexAny(rest, ",}")]), &revision)
		a.mu.Lock()
		a.revision = revision
		a.mu.Unlock()
	}
	if bytes.Contains(line[:min(len(line), 200)], []byte(`"report":true`)) || bytes.HasPrefix(line, []byte(`{"full":true`)) {
		a.tellNow()
	}
	if !bytes.Contains(line[:min(len(line), 200)], []byte(`"pods":`)) && !bytes.Contains(line, []byte(`"pod/`)) {
		return nil
	}
	var patch struct {
		Pods    []api.Pod `json:"pods"`
		Removed []string  `json:"removed"`
	}
	if err := json.Unmarshal(line, &patch); err != nil {
		return err
	}
	a.apply(false, patch.Pods, patch.Removed)
	a.tellNow()
	return nil
}

// apply takes in what a patch says of pods.
func (a *simAgent) apply(full bool, pods []api.Pod, removed []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if full {
		clear(a.pods)
	}
	for _, p := range pods {
		a.pods[p.Metadata.UID] = p
	}
	for _, key := range removed {
		if uid, ok := strings.CutPrefix(key, "pod/"); ok {
			delete(a.pods, api.UID(uid))
		}
	}
	a.seq++
	a.body, a.mark = nil, ""
}

// tellNow lets the next report not wait.
func (a *simAgent) tellNow() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// tell reports at each change, and as rarely as the master allows, by the rules of a real agent and its client.
func (a *simAgent) tell(ctx context.Context) {
	t := time.NewTimer(rand.N(api.ReportEvery))
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-a.kick:
		}
		answer, err := a.tellOnce(ctx)
		if err != nil {
			a.fleet.complainOf(ctx, a, err)
		}
		t.Reset(api.ReportWait(answer.Every.Std(), false))
	}
}

// tellOnce sends a heartbeat, or the report when the master does not have that.
func (a *simAgent) tellOnce(ctx context.Context) (answer api.ReportAnswer, err error) {
	a.mu.Lock()
	if a.body == nil {
		a.body, err = json.Marshal(a.reportLocked())
	}
	body, mark, seq := a.body, a.mark, a.seq
	a.mu.Unlock()
	if err != nil {
		return answer, err
	}
	if mark != "" {
		status, err := a.put(ctx, "heartbeat/"+string(mark), nil, &answer)
		if err != nil || status != http.StatusConflict {
			return a.told(answer), err
		}
	}
	if _, err = a.put(ctx, "report", body, &answer); err != nil {
		return answer, err
	}
	a.told(answer)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seq == seq {
		a.mark = answer.Mark
	}
	return answer, nil
}

// told gives an answer with what the last one said, where it says nothing.
func (a *simAgent) told(answer api.ReportAnswer) api.ReportAnswer {
	answer.Every = cmp.Or(answer.Every, a.every)
	a.every = answer.Every
	return answer
}

// put gives the status of the answer, which is a conflict for a heartbeat that the master does not take.
func (a *simAgent) put(ctx context.Context, what string, body []byte, answer *api.ReportAnswer) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, a.url(what), bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return 0, err
	case resp.StatusCode == http.StatusOK:
		return resp.StatusCode, json.Unmarshal(text, answer)
	case resp.StatusCode == http.StatusNoContent, resp.StatusCode == http.StatusConflict && what != "report":
		return resp.StatusCode, nil
	}
	return 0, fmt.Errorf("its %s is answered %s: %s", what, resp.Status, text)
}

// said is a report now.
func (a *simAgent) said() api.HostReport {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.reportLocked()
}

// reportLocked says that every pod runs, but for those that are to end: they are gone.
func (a *simAgent) reportLocked() api.HostReport {
	r := api.HostReport{Host: a.name, Version: "simulated", Revision: a.revision, Capacity: api.Resources{CPU: 16000, Memory: 64 << 30},
		HostOffer: api.HostOffer{MaxPolicy: api.PolicyBaseline, HostPorts: 10_000}, Endpoints: api.HostEndpoints{Host: a.name, Seq: a.seq}}
	for uid, p := range a.pods {
		said := api.PodReport{UID: uid, Project: p.Metadata.Project, Name: p.Metadata.Name, Status: api.PodStatus{Phase: api.PhaseRunning, Ready: true}}
		if p.Metadata.Deleting {
			said.Status = api.PodStatus{Phase: api.PhaseGone}
		}
		r.Pods = append(r.Pods, said)
		for _, port := range p.Spec.Template.Ports {
			if !p.Metadata.Deleting {
				r.Endpoints.Endpoints = append(r.Endpoints.Endpoints, api.Endpoint{Project: p.Metadata.Project, Service: p.Spec.Service, Pod: p.Metadata.Name,
					Port: port.Name, Protocol: api.TCP, Address: netip.AddrPortFrom(a.address, 20000), Ready: true})
			}
		}
	}
	slices.SortFunc(r.Pods, func(a, b api.PodReport) int { return cmp.Compare(a.UID, b.UID) })
	slices.SortFunc(r.Endpoints.Endpoints, func(a, b api.Endpoint) int { return cmp.Compare(a.Pod, b.Pod) })
	return r
}
