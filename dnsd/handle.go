package dnsd

import (
	"bytes"
	"context"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// worker answers the queries of one socket or one connection, one after the other, in memory of its own.
type worker struct {
	server *Server
	question
	cookies cookies
	asker   netip.Addr
	tcp     bool
	recurse bool // the asker may
}

func (s *Server) newWorker(tcp bool) *worker {
	return &worker{server: s, tcp: tcp, cookies: cookies{block: s.secret}}
}

// outcome is what becomes of a message.
type outcome int

const (
	silence   outcome = iota
	replied           // with bytes
	elsewhere         // other servers must be asked: see ask
	transfer          // of the whole zone: see sendZone
)

// respond appends the reply to a message from anyone to an empty buffer.
func (w *worker) respond(to, raw []byte, asker netip.Addr, now time.Time) ([]byte, outcome) {
	w.asker = asker
	rcode := w.read(raw)
	if rcode == ignored {
		return nil, silence
	}
	view := w.server.config.Source.View(asker)
	w.recurse = view.Recurse
	pass := w.admit(view, now)
	switch {
	case pass == drop:
		return nil, silence
	case rcode != dns.RcodeSuccess:
		return short(to, raw, rcode), replied
	case pass == slip:
		return w.write(to, &answer{bits: [2]byte{bitTC}}, now), replied
	}
	a, out := w.decide(view, now)
	if out == replied && w.follows(view) && a.counts[0] > 0 {
		out = elsewhere // its addresses are made known first, which takes a moment
	}
	if out != replied {
		return nil, out
	}
	return w.write(to, a, now), replied
}

// admit bounds what strangers and single pods get over UDP. Who shows a cookie of ours is not forged.
func (w *worker) admit(v View, now time.Time) pass {
	switch s := w.server; {
	case w.tcp:
		return allow
	case v.Pod != nil:
		if s.pods.pass(w.asker, now) != allow {
			return drop
		}
	case !v.Recurse && !w.cookies.check(w.cookie, w.asker, now):
		return s.strangers.pass(w.asker, now)
	}
	return allow
}

// decide finds the answer to a question.
func (w *worker) decide(v View, now time.Time) (*answer, outcome) {
	switch {
	case w.edns && w.version != 0:
		return failure(dns.RcodeBadVers), replied
	case w.class != dns.ClassINET:
		return failure(dns.RcodeRefused), replied
	case w.qtype == dns.TypeAXFR || w.qtype == dns.TypeIXFR:
		return w.decideTransfer(v)
	}
	a, is := v.answer(w.name, w.qtype)
	switch {
	case is == unready:
		return failure(dns.RcodeServerFailure), replied
	case is != foreign:
		return a, replied
	case !v.Recurse:
		return failure(dns.RcodeRefused), replied
	case w.qtype == dns.TypeANY: // nobody needs it, and it makes big answers
		return failure(dns.RcodeNotImplemented), replied
	}
	if a := w.server.forward.cached(&w.question, now); a != nil {
		return a, replied
	}
	return nil, elsewhere
}

// write writes an answer as the reply to the query that was read last.
func (w *worker) write(to []byte, a *answer, now time.Time) []byte {
	var cookie []byte
	if len(w.cookie) > 0 {
		cookie = w.cookies.give(w.cookie[:8], w.asker, now)
	}
	return w.question.write(to, a, w.room(w.tcp), w.recurse, cookie, now)
}

// later is a query that waits for other servers: a copy, since its socket goes on.
func (w *worker) later() *worker {
	l := w.server.newWorker(w.tcp)
	l.read(bytes.Clone(w.raw))
	l.asker, l.recurse = w.asker, w.recurse
	return l
}

// ask gives the reply of other servers. A place among those that wait must be reserved.
func (w *worker) ask(ctx context.Context, to []byte) []byte {
	a, err := w.answer(ctx)
	if err == nil {
		reply := w.write(to, a, time.Now())
		if err = w.tell(ctx, reply); err == nil {
			return reply
		}
		to = to[:0]
	}
	if err != nil {
		w.server.config.Logger.Debug("a name is not resolved", "name", string(w.name), "asker", w.asker, "error", err)
		a = failure(dns.RcodeServerFailure)
	}
	return w.write(to, a, time.Now())
}

// overload gives the reply when too many wait.
func (w *worker) overload(to []byte) []byte {
	w.server.config.Logger.Debug("a name is not resolved", "asker", w.asker, "error", errOverload)
	return w.write(to, failure(dns.RcodeServerFailure), time.Now())
}
