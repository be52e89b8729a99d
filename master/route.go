package master

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"path"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"gearmesh.dev/api"
)

// caller says who may use a route.
type caller int

const (
	forPeople  caller = iota // a person with a token
	forHost                  // the host that {name} names, with its certificate
	forAnybody               // no identity is needed
)

// Limits of requests.
const (
	maxHeader = 64 << 10
	maxBody   = 1 << 20
	maxReport = 8 << 20 // a host with thousands of pods reports more than people write
	// writeTime is how long a client may take to read an answer, or one line of a stream.
	writeTime = 30 * time.Second
	// answerTime is how long the store may take over a request: without a quorum the answer is
	// "unavailable" within 2 s.
	answerTime = 1900 * time.Millisecond
)

// route is one line of the API's table: all that is served, to whom, and what OpenAPI says of it.
type route struct {
	id           string // of the operation: what a generated client calls it
	method, path string
	who          caller
	summary      string
	body         reflect.Type   // decoded strictly; nil for none
	limit        int64          // of the body in bytes; maxBody when 0
	audit        bool           // leaves a record
	stream       bool           // NDJSON of answer
	session      bool           // becomes a websocket (session.go)
	once         bool           // takes an Idempotency-Key (once.go)
	prompt       bool           // asks nothing but the store, so that its answer comes within answerTime
	status       int            // of success; 200 when 0
	also         map[int]string // further statuses of success, and what they mean
	octets       bool           // the answer is bytes and not JSON
	answer       reflect.Type   // nil for none
	query        []queryParam
	handle       func(*call) error
}

// queryParam is a query parameter for OpenAPI and for the check that no other is given.
type queryParam struct{ name, doc string }

// call is one request on its way through a route.
type call struct {
	*http.Request
	w    http.ResponseWriter
	who  identity
	body []byte
	// spoke is when the last line of a stream was sent.
	spoke time.Time
	// object, result and why are for the audit record; why says of a refusal what the answer may not.
	object string
	result string
	why    string
	// again: the request only asks once more, and leaves no record.
	again bool
}

// name gives a path value that the router has checked to be a name.
func (c *call) name(key string) api.Name { return api.Name(c.PathValue(key)) }

// answer sends v as JSON.
func (c *call) answer(status int, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.WriteHeader(status)
	_, _ = c.w.Write(append(data, '\n')) // a client that has gone needs no answer
	return nil
}

// router serves a table of routes and nothing else.
type router struct {
	mux    *http.ServeMux
	auth   *authenticator
	log    *slog.Logger
	audits *audits
	// ready bounds how long a request waits for the cache to be filled after a start.
	ready  func(context.Context) error
	limits *limits
}

func newRouter(routes []route, auth *authenticator, log *slog.Logger, ready func(context.Context) error) (*router, huma.API) {
	r := &router{mux: http.NewServeMux(), auth: auth, log: log, audits: newAudits(log), ready: ready, limits: newLimits()}
	spec := newOpenAPI(r.mux)
	for _, rt := range routes {
		op := operation(rt, spec.OpenAPI().Components.Schemas)
		spec.OpenAPI().AddOperation(op)
		spec.Adapter().Handle(op, func(ctx huma.Context) {
			req, w := humago.Unwrap(ctx)
			r.serve(rt, w, req)
		})
	}
	nameKinds(spec.OpenAPI().Components.Schemas)
	for _, s := range spec.OpenAPI().Components.Schemas.Map() {
		neverNull(s)
	}
	return r, spec
}

// ServeHTTP implements http.Handler. What matches no route is answered as everything else is.
func (r *router) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	if path.Clean(req.URL.Path) != req.URL.Path {
		writeProblem(w, api.Errorf(api.CodeNotFound, "there is no such path"))
		return
	}
	if _, pattern := r.mux.Handler(req); pattern != "" {
		r.mux.ServeHTTP(w, req)
		return
	}
	if allow := r.allowed(req); allow != "" {
		h.Set("Allow", allow)
		e := api.Errorf(api.CodeBadRequest, "%.20q is not possible here; %s is", req.Method, allow)
		e.Status, e.Title = http.StatusMethodNotAllowed, http.StatusText(http.StatusMethodNotAllowed)
		writeProblem(w, e)
		return
	}
	writeProblem(w, api.Errorf(api.CodeNotFound, "there is no such path; GET /openapi.json lists all"))
}

// allowed gives the methods that the request's path has.
func (r *router) allowed(req *http.Request) string {
	var out []string
	for _, m := range []string{"GET", "POST", "PUT", "DELETE"} {
		other := req.Clone(req.Context())
		other.Method = m
		if _, pattern := r.mux.Handler(other); pattern != "" {
			out = append(out, m)
		}
	}
	return strings.Join(out, ", ")
}

// serve takes one request through its route: who, may they, what, do it, record it.
func (r *router) serve(rt route, w http.ResponseWriter, req *http.Request) {
	c := &call{Request: req, w: w}
	err := r.carry(rt, c)
	if err != nil {
		p := problemOf(err)
		if p.Code == api.CodeInternal {
			r.log.Error("a request ended in an error", "route", rt.method+" "+rt.path, "error", err)
		}
		c.result = string(p.Code)
		writeProblem(w, p)
	}
	if rt.audit && !c.again {
		r.audits.call(rt, c, err)
	}
}

func (c *call) objectName() string {
	if c.object != "" {
		return c.object
	}
	return strings.Trim(c.PathValue("project")+"/"+c.PathValue("name"), "/")
}

func (r *router) carry(rt route, c *call) error {
	if rt.who != forAnybody || rt.audit { // also to know the hosts
		if err := r.ready(c.Context()); err != nil {
			return err
		}
	}
	var err error
	if c.who, err = r.auth.identify(c.Request, rt.who); err != nil {
		return err
	}
	if err := checkPath(rt, c); err != nil {
		return err
	}
	if err := mayCall(rt, c); err != nil {
		return err
	}
	if err := checkQuery(rt, c); err != nil {
		return err
	}
	if !rt.once && rt.method != http.MethodGet && c.Header.Get(onceHeader) != "" {
		return api.Errorf(api.CodeBadRequest, "this request takes no %s: sent again, it would do something again", onceHeader)
	}
	if err := r.limits.call(c.who, time.Now()); err != nil {
		again(c.w, time.Second)
		return err
	}
	if c.body, err = readBody(rt, c); err != nil {
		return err
	}
	leave, err := r.limits.work(c.Context(), rt, c.who)
	if err != nil {
		again(c.w, time.Second)
		return err
	}
	defer leave()
	if rt.prompt {
		ctx, cancel := context.WithTimeout(c.Context(), answerTime)
		defer cancel()
		c.Request = c.WithContext(ctx)
	}
	if rt.stream {
		defer c.openStream()()
	}
	return rt.handle(c)
}

// mayCall is where a route's line in the table decides; what it does not allow is refused.
func mayCall(rt route, c *call) error {
	switch {
	case rt.who == forAnybody:
		return nil
	case c.who.kind == nobody:
		return api.Errorf(api.CodeUnauthorized, "say who you are: people by %q, hosts by their certificate", "Authorization: Bearer TOKEN")
	case rt.who == forPeople && c.who.kind == person:
		return nil
	case rt.who == forHost && c.who.kind == host:
		if c.name("name") != c.who.name {
			return notFound(api.Key{Kind: api.KindHost, Name: c.name("name")})
		}
		return nil
	}
	return api.Errorf(api.CodeForbidden, "%s may not do this", c.who)
}

// checkPath refuses path values that are no names. ServeMux decodes %2f, %00 and %0a in them.
func checkPath(rt route, c *call) error {
	for segment := range strings.SplitSeq(rt.path, "/") {
		key := strings.Trim(segment, "{}")
		if key == segment {
			continue
		}
		if err := c.name(key).Validate(); err != nil {
			return api.Invalid("the path", []api.Fault{{Field: key, Message: err.Error()}})
		}
	}
	return nil
}

// checkQuery refuses parameters that the route does not have, and doubled ones: a mistyped
// ?revision would otherwise delete unconditionally.
func checkQuery(rt route, c *call) error {
	values := c.URL.Query()
	for key, list := range values {
		known := false
		var names []string
		for _, q := range rt.query {
			known = known || q.name == key
			names = append(names, q.name)
		}
		switch {
		case !known && api.Nearest(key, names) != "":
			return api.Errorf(api.CodeBadRequest, "the query parameter %.40q is not known; did you mean %q?", key, api.Nearest(key, names))
		case !known:
			return api.Errorf(api.CodeBadRequest, "the query parameter %.40q is not known here", key)
		case len(list) > 1:
			return api.Errorf(api.CodeBadRequest, "the query parameter %q is given twice", key)
		}
	}
	return nil
}

func readBody(rt route, c *call) ([]byte, error) {
	limit := rt.limit
	switch {
	case rt.body == nil:
		limit = 0
	case limit == 0:
		limit = maxBody
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.Body, limit))
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(body) {
		return nil, api.Errorf(api.CodeBadRequest, "the body is not valid UTF-8")
	}
	return body, nil
}

// openStream prepares for an answer without end: the server's timeouts are for whole answers.
func (c *call) openStream() (done func()) {
	rc := http.NewResponseController(c.w)
	_ = rc.SetReadDeadline(time.Time{})
	_ = rc.SetWriteDeadline(time.Time{})
	c.w.Header().Set("Content-Type", "application/x-ndjson")
	c.w.Header().Set("Cache-Control", "no-store")
	return func() { _ = rc.SetWriteDeadline(time.Now().Add(writeTime)) }
}

// send writes one line of a stream; a client that does not read it in writeTime is dropped.
func (c *call) send(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.sendLine(data)
}

// sendLine writes a line that comes in pieces.
func (c *call) sendLine(pieces ...[]byte) error {
	rc := http.NewResponseController(c.w)
	if err := rc.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	c.spoke = time.Now()
	for _, data := range append(pieces, []byte{'\n'}) {
		if _, err := c.w.Write(data); err != nil {
			return err
		}
	}
	if err := rc.Flush(); err != nil {
		return err
	}
	return rc.SetWriteDeadline(time.Time{}) // in HTTP/2 it would end the stream between lines
}
