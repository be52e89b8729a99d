package master

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/pki"
)

// agentClient makes the client of the agents' API. A host is asked under its name: the dialer
// finds its address in the cache, and TLS checks that the certificate there is of that name.
func (m *Master) agentClient() *http.Client {
	dialer := &net.Dialer{Timeout: 3 * time.Second}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS13}
	if m.cfg.AgentTLS != nil {
		tlsConfig = pki.Refusing(m.cfg.AgentTLS.Clone(), m.cache.refuses)
	}
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			name, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			m.cache.mu.RLock()
			at := m.cache.addressOfLocked(api.Name(name))
			m.cache.mu.RUnlock()
			if !at.IsValid() {
				return nil, fmt.Errorf("the address of host %q is not known", name)
			}
			return dialer.DialContext(ctx, network, net.JoinHostPort(at.String(), port))
		},
		TLSClientConfig: tlsConfig, TLSHandshakeTimeout: 3 * time.Second, ResponseHeaderTimeout: 5 * time.Second,
		IdleConnTimeout: 30 * time.Second, MaxIdleConnsPerHost: 2,
	}}
}

// askAgent asks a host's agent. The caller closes the body.
func (m *Master) askAgent(ctx context.Context, host api.Name, path string, query url.Values) (io.ReadCloser, error) {
	return m.tellAgent(ctx, http.MethodGet, host, path, query)
}

// agentRefusal is an agent's own answer that it will not do something.
type agentRefusal struct {
	host    api.Name
	problem api.Error
}

func (e agentRefusal) Error() string {
	return fmt.Sprintf("host %q answers: %s", e.host, plain(e.problem.Detail))
}

// tellAgent calls a host's agent. The caller closes the body.
func (m *Master) tellAgent(ctx context.Context, method string, host api.Name, path string, query url.Values) (io.ReadCloser, error) {
	u := url.URL{Scheme: "https", Host: net.JoinHostPort(string(host), strconv.Itoa(int(m.cfg.AgentPort))), Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := m.agents.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking host %q: %w", host, err)
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusNoContent {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxText))
	var problem api.Error
	if json.Unmarshal(answer, &problem) == nil && problem.Detail != "" {
		return nil, agentRefusal{host, problem}
	}
	return nil, fmt.Errorf("host %q answers %s", host, resp.Status)
}

// maxWhy bounds an agent's explanation of a pod.
const maxWhy = 4 << 20

// why answers GET on a pod's why: what its host knows of it, or without the host what the master knows.
func (m *Master) why(c *call) error {
	key := api.Key{Kind: api.KindPod, Project: c.name("project"), Name: c.name("name")}
	r, ok := m.cache.get(key)
	if !ok {
		return notFound(key)
	}
	pod := m.withStatus(r).(*api.Pod)
	out := api.Why{Pod: *pod, Dropped: true}
	if pod.Spec.Host != "" {
		ctx, cancel := context.WithTimeout(c.Context(), 10*time.Second)
		defer cancel()
		if told, err := m.askWhy(ctx, pod); err != nil {
			m.log.Info("asking a host to explain a pod", "pod", key.String(), "error", err)
		} else {
			out = told
			out.Pod, out.Dropped = *pod, false
		}
	}
	return c.answer(http.StatusOK, out)
}

func (m *Master) askWhy(ctx context.Context, pod *api.Pod) (api.Why, error) {
	body, err := m.askAgent(ctx, pod.Spec.Host, "/v1/pods/"+string(pod.Metadata.UID)+"/why", nil)
	if err != nil {
		return api.Why{}, err
	}
	defer body.Close()
	var w api.Why
	if err := json.NewDecoder(io.LimitReader(body, maxWhy)).Decode(&w); err != nil {
		return api.Why{}, fmt.Errorf("reading the explanation of host %q: %w", pod.Spec.Host, err)
	}
	return w, nil
}
