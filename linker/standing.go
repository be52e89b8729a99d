package linker

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// Standing is how the rules of a namespace stand to those that a Writer has last given it.
type Standing string

// The standings.
const (
	Stands  Standing = "stands"  // nobody has changed them
	Unsure  Standing = "unsure"  // nobody has looked yet: others gave them, or they were written without looking, and others may have written meanwhile
	Touched Standing = "touched" // somebody else has changed them
	Gone    Standing = "gone"    // the namespace is
)

// Standing looks at a namespace. It costs a few system calls.
func (w *Writer) Standing(ctx context.Context, netns string) Standing {
	is := Touched
	err := w.in(ctx, netns, func(s *space, l *line) error {
		if s.left == 0 {
			is = Unsure
			return nil
		}
		now, err := s.mark(l)
		switch {
		case err != nil || now != s.left:
			is = Touched
		case s.sure:
			is = Stands
		default:
			is = Unsure
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return Gone
	}
	return is
}

// Quiet tells whether a namespace certainly has no connections. The kernel counts them by namespace, but keeps those of all in
// one table, and walks all of it for whoever lists them.
func (w *Writer) Quiet(ctx context.Context, netns string) bool {
	quiet := false
	err := w.in(ctx, netns, func(_ *space, l *line) (err error) {
		quiet, err = l.noFlows()
		return err
	})
	return err == nil && quiet
}

// Keep closes the sockets in all namespaces but those of used.
func (w *Writer) Keep(used func(netns string) bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for netns, s := range w.spaces {
		if !used(netns) {
			errs = append(errs, s.close())
			delete(w.spaces, netns)
		}
	}
	return errors.Join(errs...)
}

// in calls f, alone, with a namespace and a line to it.
func (w *Writer) in(ctx context.Context, netns string, f func(*space, *line) error) error {
	if err := w.learn(ctx); err != nil {
		return err
	}
	for {
		s, err := w.space(netns)
		if err != nil {
			return err
		}
		if done, err := w.inside(s, f); done {
			return err
		}
	}
}

// inside does nothing in a space that is closed by now.
func (w *Writer) inside(s *space, f func(*space, *line) error) (done bool, err error) {
	buf := w.buffers.Get().(*[lineBuffer]byte)
	defer w.buffers.Put(buf)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sockets) == 0 {
		return false, nil
	}
	l := &line{s.sockets[lineSocket], buf[:]}
	if err := l.clear(); err != nil {
		return true, err
	}
	return true, f(s, l)
}

// space gives the namespace that has a name at present.
func (w *Writer) space(netns string) (*space, error) {
	inode, err := inodeOf(netns)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	s := w.spaces[netns]
	w.mu.Unlock()
	if s != nil && s.inode == inode {
		return s, nil
	}
	fresh, err := openSpace(netns, w.kind, w.ip)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.spaces[netns]
	if now != nil && now != s { // another was quicker
		return now, fresh.close()
	}
	w.spaces[netns] = fresh
	if now != nil {
		err = now.close()
	}
	return fresh, err
}

// What tells how many entries a namespace has (linux/netfilter/nfnetlink_conntrack.h).
const (
	askFlows   = 5 // IPCTNL_MSG_CT_GET_STATS
	countFlows = 1 // CTA_STATS_GLOBAL_ENTRIES
)

// noFlows asks for the number of entries. The answer is marked as one of several, and no end follows it: the acknowledgement is
// the end.
func (l *line) noFlows() (bool, error) {
	answers, err := l.request(unix.NFNL_SUBSYS_CTNETLINK, askFlows, unix.NLM_F_ACK, unix.AF_UNSPEC)
	if err != nil || len(answers) != 1 {
		return false, err
	}
	count := attribute(answers[0], countFlows)
	return len(count) == 4 && binary.BigEndian.Uint32(count) == 0, nil
}
