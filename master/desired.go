package master

import (
	"net/http"
	"sync"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/loop"
)

const (
	// desiredSettle merges bursts of changes into one patch.
	desiredSettle = 20 * time.Millisecond
	// keepAlive is the longest silence on a host's stream; a host takes a longer one for a dead
	// connection.
	keepAlive = 2 * time.Second
)

// desiredFor gives what a host should do and know: its own pods, bare of status, and the
// directory. It is all that a host's certificate lets it see.
func desiredFor(term, revision int64, pods []api.Pod, d *directory) api.Desired {
	return api.Desired{Term: term, Revision: revision, Pods: pods, Directory: d.Directory}
}

// sent is where a host's stream stands.
type sent struct {
	api.Desired
	podSeq    int64
	sealSeq   int64
	directory *directory
}

// desired answers GET /v1/hosts/{name}/desired: a stream of patches, the first one full.
func (m *Master) desired(c *call) error {
	term := m.term()
	if term == 0 {
		return notLeading()
	}
	var last sent
	for first := true; ; first = false {
		changed := m.cache.signal()
		next := m.desiredNow(c.name("name"), term)
		m.addSecrets(last, &next)
		patch := m.patch(last, next)
		if first {
			patch = api.FullPatch(next.Desired)
		}
		last = next
		if !m.tell(c, patch, first) || !m.awaitChange(c, changed, term) {
			return nil
		}
	}
}

// tell sends a patch that says something, and else keeps the stream alive. It is false when the
// host has gone; it comes again.
func (m *Master) tell(c *call, patch api.Patch, first bool) bool {
	if first || !patch.Empty() {
		return c.send(patch) == nil
	}
	return m.idle(c) == nil
}

// idle keeps the stream alive when keepAlive has passed without a patch.
func (m *Master) idle(c *call) error {
	if time.Since(c.spoke) < keepAlive-desiredSettle {
		return nil
	}
	return c.sendLine(nil)
}

// awaitChange waits for a change or until something must be said again. It is false when the
// stream should end.
func (m *Master) awaitChange(c *call, changed <-chan struct{}, term int64) bool {
	t := time.NewTimer(max(time.Millisecond, keepAlive-time.Since(c.spoke)))
	defer t.Stop()
	select {
	case <-changed:
		loop.Sleep(c.Context(), desiredSettle)
	case <-t.C:
	case <-m.stopping:
		return false
	case <-c.Context().Done():
	}
	return c.Context().Err() == nil && m.term() == term && m.stillKnown(c)
}

// stillKnown tells whether the host of a stream may still see it: it may have been deleted, or
// its certificate may have run out, since the stream was opened.
func (m *Master) stillKnown(c *call) bool {
	_, err := m.router.auth.byCertificate(c.TLS.VerifiedChains[0][0])
	return err == nil
}

func (m *Master) desiredNow(host api.Name, term int64) sent {
	d := m.views.current(term).directory
	seal := m.cache.secretsSeq() // before the pods: a later secret is then found to be news
	pods, seq, revision := m.cache.podsOf(host)
	return sent{desiredFor(term, revision, pods, d), seq, seal, d}
}

// addSecrets adds what the pods need of secrets, where that may differ from what was sent last.
func (m *Master) addSecrets(last sent, next *sent) {
	next.Secrets = last.Secrets
	if last.podSeq != next.podSeq || last.sealSeq != next.sealSeq {
		next.Secrets = m.secretsFor(next.Pods)
	}
}

// patch gives what changed. That of the directory is the same for all hosts and made once.
func (m *Master) patch(last, next sent) api.Patch {
	p := api.Patch{Term: next.Term, Revision: next.Revision}
	if last.podSeq != next.podSeq || last.sealSeq != next.sealSeq {
		p = api.Diff(api.Desired{Pods: last.Pods, Secrets: last.Secrets},
			api.Desired{Term: next.Term, Revision: next.Revision, Pods: next.Pods, Secrets: next.Secrets})
	}
	if last.directory != nil && last.directory != next.directory {
		d := m.deltas.between(last.directory, next.directory)
		p.Services, p.Hosts, p.Aliases, p.Endpoints, p.Masters = d.Services, d.Hosts, d.Aliases, d.Endpoints, d.Masters
		p.Removed = append(p.Removed, d.Removed...)
	}
	return p
}

// deltas remembers the patches that lead to the newest directory: with 5,000 hosts on a stream
// most ask for the same one.
type deltas struct {
	mu sync.Mutex
	to *directory
	by map[*directory]api.Patch
}

func (d *deltas) between(from, to *directory) api.Patch {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.to != to {
		d.to, d.by = to, map[*directory]api.Patch{}
	}
	p, ok := d.by[from]
	if !ok {
		p = api.Diff(api.Desired{Directory: from.Directory}, api.Desired{Directory: to.Directory})
		d.by[from] = p
	}
	return p
}

// podsOf gives the pods that are assigned to a host, sorted, with a number that grows when they
// change, and the revision.
func (c *cache) podsOf(host api.Name) (pods []api.Pod, seq, revision int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, p := range c.byHost[host] {
		told := *p
		told.Spec.Egress = api.EgressOf(c.egressLocked(p.Metadata.Project), p.Spec.Template)
		pods = append(pods, told)
	}
	sortPods(pods)
	return pods, c.podSeq[host], c.revision
}

// egressLocked gives what a project says of its pods' egress.
func (c *cache) egressLocked(project api.Name) *api.Egress {
	p, ok := c.objects[api.KindProject][api.Key{Kind: api.KindProject, Name: project}].(*api.Project)
	if !ok {
		return nil
	}
	return p.Spec.Egress
}

// projectChangedLocked tells the hosts of a project's pods that these are told otherwise now.
func (c *cache) projectChangedLocked(project api.Name) {
	for host, pods := range c.byHost {
		for key := range pods {
			if key.Project == project {
				c.podSeq[host]++
				break
			}
		}
	}
}

// signal gives a channel that closes at the next change.
func (c *cache) signal() <-chan struct{} {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.changed
}

func notLeading() error {
	e := api.Errorf(api.CodeUnavailable, "this master does not lead; ask another")
	e.Status, e.Title = http.StatusServiceUnavailable, http.StatusText(http.StatusServiceUnavailable)
	return e
}
