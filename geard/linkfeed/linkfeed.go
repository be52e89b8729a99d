// Package linkfeed tells the containers of each pod of the pod's own links, as they are and as they change. Each pod has
// a unix socket in a directory of its own, which its containers see read-only at podstate.LinksMount:
//
//	GET /v1/links         api.LinkFeed: the links now
//	GET /v1/links/stream  text/event-stream: an event "links" with the same at once, then one after each change
//
// Containers are hostile. Each pod's sockets, connections and pace are its own and bounded, a reader that does not read is dropped, and
// whoever tells of links never waits for one that listens.
package linkfeed

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
)

// limits are the bounds of what containers may cost.
type limits struct {
	perPod    int           // connections of a pod at once
	sure      int           // of them, those that a pod has whatever others do
	perHost   int           // connections of all pods, beyond which a pod has no more than its sure ones
	spare     int           // connections of a pod beyond those, which are told that they are too many; further ones are closed
	heads     int           // bytes of a request's header
	read      time.Duration // for a request, from its first byte to its last
	write     time.Duration // for an answer, or an event of a stream, to be taken
	idle      time.Duration // between two requests of a connection
	heartbeat time.Duration // between two signs of life on a stream
	burst     int           // connections and requests of a pod that are served at once
	interval  time.Duration // after a burst, between one and the next
}

func defaults() limits {
	return limits{perPod: 16, sure: 2, perHost: 1024, spare: 4, heads: 8 << 10, read: 5 * time.Second, write: 10 * time.Second, idle: 30 * time.Second,
		heartbeat: 15 * time.Second, burst: 100, interval: 20 * time.Millisecond}
}

// Server has the sockets of a host's pods. All its methods may be called at any time from anywhere.
type Server struct {
	dirs   podstate.Dirs
	limits limits
	http   *http.Server
	ctx    context.Context // ends with Stop; streams live in it
	cancel context.CancelFunc
	busy   sync.WaitGroup // what accepts and what answers

	mu      sync.Mutex
	stopped bool
	pods    map[api.UID]*pod
	open    int // connections of all pods, without those that are too many
}

// New makes the server of a host. It serves a pod from the first Tell about it.
func New(dirs podstate.Dirs, log *slog.Logger) *Server { return newServer(dirs, log, defaults()) }

func newServer(dirs podstate.Dirs, log *slog.Logger, l limits) *Server {
	s := &Server{dirs: dirs, limits: l, pods: map[api.UID]*pod{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.http = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: l.read, ReadTimeout: l.read, WriteTimeout: l.write, IdleTimeout: l.idle,
		MaxHeaderBytes: l.heads, BaseContext: func(net.Listener) context.Context { return s.ctx }, ConnContext: withConn,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)} // what a container does wrong is no line of the host's journal
	return s
}

// pod is what the server knows of a pod. Its fields are guarded by the server's mutex, but for those that never change.
type pod struct {
	uid   api.UID
	pace  pace
	ended chan struct{} // closed when the pod's socket is for good

	socket  net.Listener // nil until it is there
	trouble error        // why not
	told    []api.LinkTarget
	state   state
	conns   map[*conn]struct{}
	open    int  // connections, without those that are too many
	leaving bool // no socket any more
}

// state is what a pod is told at one time. It never changes.
type state struct {
	id   int64
	body func() []byte // api.LinkFeed; of most states nobody asks for it
	next chan struct{} // closed when there is another one
}

// Tell tells a pod of its links. It opens the pod's socket when there is none, unless the pod is not on disk: whoever removes pods does so in
// the order Leave, disk, Forget, and then nothing of the socket stays.
func (s *Server) Tell(uid api.UID, project, name api.Name, links []api.LinkTarget) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pods[uid]
	if s.stopped || p != nil && p.leaving || p == nil && !s.onDisk(uid) {
		return
	}
	if p == nil {
		p = &pod{uid: uid, ended: make(chan struct{}), conns: map[*conn]struct{}{}, pace: pace{burst: s.limits.burst, interval: s.limits.interval}}
		s.pods[uid] = p
	}
	if p.state.next == nil || !slices.EqualFunc(p.told, links, func(a, b api.LinkTarget) bool { return reflect.DeepEqual(a, b) }) {
		p.tellLocked(project, name, links)
	}
	if p.socket == nil {
		s.listenLocked(p)
	}
}

func (p *pod) tellLocked(project, name api.Name, links []api.LinkTarget) {
	if p.state.next != nil {
		close(p.state.next)
	}
	// The clock makes ids grow over restarts too, without a file.
	id, told := max(p.state.id+1, time.Now().UnixMicro()), slices.Clone(links)
	body := sync.OnceValue(func() []byte {
		text, _ := json.Marshal(api.NewLinkFeed(id, project, name, told)) // names, numbers and addresses always encode
		return text
	})
	p.told, p.state = told, state{id: id, body: body, next: make(chan struct{})}
}

// Leave closes a pod's socket and its connections for good: the pod is about to be removed.
func (s *Server) Leave(uid api.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pods[uid]
	if p == nil {
		p = &pod{uid: uid, ended: make(chan struct{})}
		s.pods[uid] = p
	}
	s.leaveLocked(p)
}

func (s *Server) leaveLocked(p *pod) {
	if p.leaving {
		return
	}
	p.leaving = true
	close(p.ended)
	if p.socket != nil {
		_ = p.socket.Close()                     // a listener's only error is that it is closed
		_ = os.Remove(s.dirs.LinksSocket(p.uid)) // the directory goes with the pod's
	}
	for c := range p.conns {
		_ = c.Conn.Close() // whoever serves it notices, and closes it once more
	}
}

// Forget forgets a pod that has left.
func (s *Server) Forget(uid api.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pods[uid]; p != nil && p.leaving {
		delete(s.pods, uid)
	}
}

// Keep lets go of all pods but those that are on disk, makes the sockets that could not be made, and tells what keeps it from that. kept are those that were found there a
// moment ago.
func (s *Server) Keep(kept func(api.UID) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var trouble error
	for uid, p := range s.pods {
		if !kept(uid) && !p.leaving && !s.onDisk(uid) {
			s.leaveLocked(p)
			delete(s.pods, uid)
			continue
		}
		if p.socket == nil && !p.leaving && !s.stopped {
			s.listenLocked(p)
		}
		trouble = cmp.Or(trouble, p.trouble) // one says what is wrong, and all would be one a pod
	}
	return trouble
}

// onDisk tells whether a pod is on disk, readable or not. pod.json is the first to go when a pod is removed.
func (s *Server) onDisk(uid api.UID) bool {
	_, err := os.Stat(filepath.Join(s.dirs.Pod(uid), "pod.json"))
	return !errors.Is(err, fs.ErrNotExist)
}

// Stop closes all sockets and connections, and waits until nothing of the server runs.
func (s *Server) Stop() {
	s.mu.Lock()
	s.stopped = true
	for _, p := range s.pods {
		s.leaveLocked(p)
	}
	s.mu.Unlock()
	s.cancel()
	_ = s.http.Close() // what it could not close has been closed above
	s.busy.Wait()
}
