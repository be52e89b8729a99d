package master

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"gearmesh.dev/api"
)

// goneLogs answers for what may be no more: a pod that the master does not know, or all that a service ever
// ran. Journals outlive pods, so every host is asked by names. A name that no host knows is not found.
func (m *Master) goneLogs(c *call, q logQuery) error {
	ask := url.Values{"project": {string(q.project)}}
	for key, name := range map[string]api.Name{"service": q.service, "pod": q.pod} {
		if name != "" {
			ask.Set(key, string(name))
		}
	}
	ask = q.values(ask)
	ctx, cancel := context.WithCancel(c.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var sources []<-chan api.LogLine
	var silent sync.Map // hosts that cannot be asked, with the error
	for _, r := range m.cache.list(api.KindHost, "") {
		host, lines := r.Head().Metadata.Name, make(chan api.LogLine, 16)
		sources = append(sources, lines)
		wg.Go(func() {
			defer close(lines)
			if err := m.readHost(ctx, host, ask, q, into(ctx, lines)); err != nil && ctx.Err() == nil {
				silent.Store(host, err)
			}
		})
	}
	sent := 0
	_ = mergeSorted(ctx, sources, func(l api.LogLine) error { sent++; return c.send(l) }) // the client has gone
	wg.Wait()
	return c.endGone(q, sent, &silent)
}

// endGone says which hosts could not be asked, or that there is nothing.
func (c *call) endGone(q logQuery, sent int, silent *sync.Map) error {
	var names []string
	for host, err := range silent.Range {
		names = append(names, string(host.(api.Name)))
		if sent > 0 || q.pod == "" {
			_ = c.send(hostNotice(host.(api.Name), q, err.(error))) // the client has gone
		}
	}
	switch key := (api.Key{Kind: api.KindPod, Project: q.project, Name: q.pod}); {
	case sent > 0 || q.pod == "":
		return nil
	case len(names) > 0:
		slices.Sort(names)
		return api.Errorf(api.CodeNotFound, "there is no %s as far as is known; hosts that could not be asked: %s", key, strings.Join(names, ", "))
	default:
		return notFound(key)
	}
}

// readHost reads what a host knows of a project's pods. What it says of others is left out.
func (m *Master) readHost(ctx context.Context, host api.Name, ask url.Values, q logQuery, emit func(api.LogLine) error) error {
	body, err := m.askAgent(ctx, host, "/v1/logs", ask)
	if err != nil {
		return err
	}
	return scanLogs(body, host, func(l api.LogLine) error {
		l.Project = q.project
		if q.asksFor(l) {
			return emit(l)
		}
		return nil
	})
}

// asksFor tells whether a line of a host is one of those that were asked for, under names that are names.
func (q logQuery) asksFor(l api.LogLine) bool {
	named := l.Pod.Validate() == nil && (l.Service == "" || l.Service.Validate() == nil)
	return named && (q.pod == "" || l.Pod == q.pod) && (q.service == "" || l.Service == q.service)
}

func hostNotice(host api.Name, q logQuery, err error) api.LogLine {
	return api.LogLine{Time: time.Now().UTC(), Host: host, Project: q.project, Service: q.service, Pod: q.pod,
		Text: printable(fmt.Sprintf("gear: host %s may have more, and cannot be asked: %v", host, err))}
}

// hostLogs answers GET on a host's logs: its journal, of all units or of one.
func (m *Master) hostLogs(c *call) error {
	q, err := c.logQuery()
	if err != nil {
		return err
	}
	key := api.Key{Kind: api.KindHost, Name: c.name("name")}
	if !m.cache.has(key) {
		return notFound(key)
	}
	ctx, cancel := context.WithCancel(c.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		select {
		case <-m.stopping:
			cancel()
		case <-ctx.Done():
		}
	})
	body, err := m.askAgent(ctx, key.Name, "/v1/logs", q.values(url.Values{"host": {"1"}}))
	if err != nil {
		return api.Errorf(api.CodeUnavailable, "%s", plain(err.Error()))
	}
	if q.follow {
		_ = c.sendLine(nil) // the answer begins, though nobody may write for long
	}
	_ = scanLogs(body, key.Name, func(l api.LogLine) error { // the client or the host has gone
		l.Project, l.Service, l.Pod, l.Container = "", "", "", ""
		return c.send(l)
	})
	return nil
}
