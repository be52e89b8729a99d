package linker

import (
	"context"
	"errors"
	"sync"
)

// Writer looks after the rules of network namespaces, each called by the path of its file ("" is the caller's): it changes them quickly, and knows when somebody else has changed them. It hands
// rules to the kernel itself, in the form in which iptables-nft does, instead of starting an iptables-restore for each namespace. Where that
// cannot be done, and for all that is not a change of a pod's links, it is the Variant that it was made of. It is safe for concurrent use.
// Of each namespace it keeps some sockets, until Keep says that they are of no use.
type Writer struct {
	variant Variant
	buffers sync.Pool // of lines

	learning sync.Mutex
	learned  bool
	kind     Variant // what variant is on this host
	why      error   // why it does not write itself
	ip       ipVersions

	mu     sync.Mutex
	spaces map[string]*space // by the namespace's path
}

// NewWriter gives a Writer for a kind of iptables. Whether it can write itself is tried at the first need.
func NewWriter(v Variant) *Writer {
	return &Writer{variant: v, spaces: map[string]*space{}, buffers: sync.Pool{New: func() any { return new([lineBuffer]byte) }}}
}

// Apply is Variant.Apply. After a change it looks again, since it knows of no other change that came between.
func (w *Writer) Apply(ctx context.Context, netns string, r Rules) error {
	return w.in(ctx, netns, func(s *space, l *line) error {
		s.tables = places(w.ip.families(r))
		for range 2 {
			s.left, s.sure = 0, false
			before, failed := s.mark(l)
			if err := w.variant.Apply(ctx, netns, r); err != nil {
				return err
			}
			if after, err := s.mark(l); err == nil {
				s.left, s.sure = after, failed == nil && after == before
			}
			if s.sure {
				break
			}
		}
		return nil
	})
}

// Update is Variant.Update: the same rules come out, as iptables-save shows them.
func (w *Writer) Update(ctx context.Context, netns string, old, r Rules) error {
	return w.in(ctx, netns, func(s *space, l *line) error {
		if w.why == nil && s.update(l, w.ip.families(old), w.ip.families(r)) == nil {
			return nil
		}
		before, failed := s.mark(l)
		s.sure = false
		if err := w.variant.Update(ctx, netns, old, r); err != nil {
			return err
		}
		s.tables = places(w.ip.families(r))
		if after, err := s.mark(l); failed == nil && err == nil {
			s.moved(before, after)
		}
		return nil
	})
}

// moved is a table that is to be rewritten.
type moved struct {
	family  uint8
	was, is table
}

// moving gives the tables that differ. All of their chains and hooks have to be there already.
func moving(before, after []family) ([]moved, error) {
	var all []moved
	for i, f := range after {
		for _, name := range names(before[i].want, f.want) {
			was, is := find(before[i].want, name), find(f.want, name)
			if !sameShape(was, is) {
				return nil, errStrange
			}
			if !sameTable(was, is) {
				all = append(all, moved{f.number(), was, is})
			}
		}
	}
	return all, nil
}

// update does what Update does without a process. After an error nothing has changed. Between looking and writing nobody can change
// anything unseen: the generation would be another one.
func (s *space) update(l *line, old, r []family) error {
	tables, err := moving(old, r)
	if err != nil || len(tables) == 0 {
		return err
	}
	generation, err := l.generation()
	if err != nil {
		return err
	}
	certain := s.sure && s.left == mark(generation)
	var changes []step
	for _, t := range tables {
		if !certain {
			if err := l.hooked(t.family, t.is); err != nil {
				return err
			}
		}
		more, err := rewriting(t.family, t.was, t.is)
		if err != nil {
			return err
		}
		changes = append(changes, more...)
	}
	if err := l.send(batch(generation, changes)); err != nil {
		return err
	}
	if err := l.acknowledge(); err != nil {
		return err
	}
	s.moved(mark(generation), mark(nextGeneration(generation)))
	return nil
}

// hooked makes sure that the chains of a table are jumped to.
func (l *line) hooked(family uint8, t table) error {
	for _, c := range t.chains {
		if c.hook == "" {
			continue
		}
		if ok, err := l.jumps(family, t.name, c); err != nil || !ok {
			return errors.Join(err, errStrange)
		}
	}
	return nil
}
