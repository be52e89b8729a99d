package master

import (
	"net/http"
	"sync"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/loop"
)

const (
	// desiredGap is the time between two patches of a host's pods at least: the first of a burst of changes is sent at once, the
	// rest together.
	desiredGap = 20 * time.Millisecond
	// keepAlive is the longest silence on a host's stream, unless the host was told of a longer one; one that is much longer is
	// a dead connection to it.
	keepAlive = 2 * time.Second
	// rareAlive is how many of a host's reports its stream may be silent for, when these are rare: the reports show that the master
	// is there.
	rareAlive = 3
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
	podTime   time.Time // when podSeq became what it is
	sealSeq   int64
	directory *directory
	every     time.Duration // how long the stream may be silent
	asked     time.Time     // since when the host is to report; zero when it is not
}

// hostLine is a patch on its way to a host. What is of the directory is the same for all hosts, and encoded once for all.
type hostLine struct {
	own  api.Patch // pods, secrets, keys of the mesh, and all that is removed
	part []byte    // as directoryPart gives it
}

func (l hostLine) empty() bool {
	return l.own.Empty() && l.own.Every == 0 && !l.own.Report && len(l.part) == 0
}

// encode gives the line in two pieces. The part is at the end of the object that the rest is.
func (l hostLine) encode() (own, part []byte) {
	own = mustJSON(l.own)
	if len(l.part) == 0 {
		return own, nil
	}
	own[len(own)-1] = ','
	return own, l.part
}

// desired answers GET /v1/hosts/{name}/desired: a stream of patches, the first one full.
func (m *Master) desired(c *call) error {
	term := m.term()
	if term == 0 {
		return notLeading()
	}
	announced, leave := m.announcer.join()
	defer leave()
	known := m.router.auth.still(c.TLS.VerifiedChains[0][0])
	paced := c.Header.Get(api.PacedHeader) == "1"
	last := sent{every: keepAlive}
	for first := true; ; first = false {
		changed := m.cache.signals.of(c.name("name"))
		d, step := m.announcer.after(last.directory, term)
		next := m.desiredNow(c.name("name"), last, term, d)
		m.addSecrets(last, &next)
		next.every, next.asked = keepAlive, m.pulses.askedOf(c.name("name"))
		if every := m.pulses.everyNow(); paced && every > keepAlive {
			next.every = rareAlive * every
		}
		line := patch(last, next, step)
		if first {
			line = fullLine(next)
		}
		line.setPace(last, next)
		last = next
		if !m.tell(c, line, last.every) || !m.awaitChange(c, changed, announced, last) || !known() {
			return nil
		}
	}
}

// tell sends a patch that says something, and else keeps the stream alive. It is false when the
// host has gone; it comes again.
func (m *Master) tell(c *call, l hostLine, every time.Duration) bool {
	if l.empty() {
		return m.idle(c, every) == nil
	}
	own, part := l.encode()
	return c.sendLine(own, part) == nil
}

// idle keeps the stream alive when it has been silent for as long as it may.
func (m *Master) idle(c *call, every time.Duration) error {
	if time.Since(c.spoke) < every-desiredGap {
		return nil
	}
	return c.sendLine()
}

// awaitChange waits for a change of what the host was told last or until something must be said again. It is false when the
// stream should end.
func (m *Master) awaitChange(c *call, changed, announced <-chan struct{}, last sent) bool {
	t := time.NewTimer(max(time.Millisecond, last.every-time.Since(c.spoke)))
	defer t.Stop()
	select {
	case <-changed:
		loop.Sleep(c.Context(), desiredGap-time.Since(last.podTime))
	case <-announced:
	case <-t.C:
	case <-m.stopping:
		return false
	case <-c.Context().Done():
	}
	return c.Context().Err() == nil && m.term() == last.Term
}

// desiredNow gives what the host should do now; last is what it was told last.
func (m *Master) desiredNow(host api.Name, last sent, term int64, d *directory) sent {
	seal := m.cache.secretsSeq() // before the pods: a later secret is then found to be news
	pods, seq, revision := m.cache.podsOf(host, last.Pods, last.podSeq)
	next := sent{Desired: desiredFor(term, revision, pods, d), podSeq: seq, podTime: last.podTime, sealSeq: seal, directory: d}
	if seq != last.podSeq {
		next.podTime = time.Now()
	}
	next.Gossip = m.cache.gossipKeys()
	return next
}

// addSecrets adds what the pods need of secrets, where that may differ from what was sent last.
func (m *Master) addSecrets(last sent, next *sent) {
	next.Secrets = last.Secrets
	if last.podSeq != next.podSeq || last.sealSeq != next.sealSeq {
		next.Secrets = m.secretsFor(next.Pods)
	}
}

// patch gives what changed.
func patch(last, next sent, s *step) hostLine {
	l := hostLine{own: api.Patch{Term: next.Term, Revision: next.Revision}}
	if last.podSeq != next.podSeq || last.sealSeq != next.sealSeq {
		l.own = api.Diff(api.Desired{Pods: last.Pods, Secrets: last.Secrets},
			api.Desired{Term: next.Term, Revision: next.Revision, Pods: next.Pods, Secrets: next.Secrets})
	}
	if next.Gossip != nil && (last.Gossip == nil || last.Gossip.Seq != next.Gossip.Seq) {
		l.own.Gossip = next.Gossip
	}
	if s != nil {
		l.part = s.part
		l.own.Removed = append(l.own.Removed, s.Removed...)
	}
	return l
}

// fullLine gives all that a host should know.
func fullLine(s sent) hostLine {
	return hostLine{own: api.Patch{Full: true, Term: s.Term, Revision: s.Revision, Pods: s.Pods, Secrets: s.Secrets, Gossip: s.Gossip}, part: s.directory.full()}
}

// setPace adds how long the stream may be silent, when that is another than before, and that the host is to report.
func (l *hostLine) setPace(last, next sent) {
	if next.every != last.every {
		l.own.Every = api.Duration(next.every)
	}
	l.own.Report = !next.asked.IsZero() && next.asked != last.asked
}

// podsOf gives the pods that are assigned to a host, sorted, with a number that grows when they
// change, and the revision. When the number is still the known one, so are the pods.
func (c *cache) podsOf(host api.Name, known []api.Pod, knownSeq int64) (pods []api.Pod, seq, revision int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.podSeq[host] == knownSeq {
		return known, knownSeq, c.revision
	}
	for key, p := range c.byHost[host] {
		if said := c.statuses[key]; p.Metadata.Deleting && said.UID == p.Metadata.UID && said.Status.Phase == api.PhaseGone {
			continue // nothing is left to do about it
		}
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
				c.podsChangedLocked(host)
				break
			}
		}
	}
}

// podsChangedLocked counts a change of what a host is told of its pods, and wakes its stream.
func (c *cache) podsChangedLocked(host api.Name) {
	c.podSeq[host]++
	c.signals.wake(host)
}

// signals wake the streams of single hosts. They have a lock of their own: every stream takes it each time that it waits.
type signals struct {
	mu sync.Mutex
	by map[api.Name]chan struct{}
}

// of gives a channel that closes when a host is to be told something else than before, but for the directory.
func (s *signals) of(host api.Name) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := s.by[host]
	if ch == nil {
		ch = make(chan struct{})
		s.by[host] = ch
	}
	return ch
}

func (s *signals) wake(hosts ...api.Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, host := range hosts {
		if ch := s.by[host]; ch != nil {
			close(ch)
			delete(s.by, host)
		}
	}
}

// wakeAll wakes every host's stream.
func (s *signals) wakeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ch := range s.by {
		close(ch)
	}
	clear(s.by)
}

// signal gives a channel that closes at the next change of anything.
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
