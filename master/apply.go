package master

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
)

// The route that stores many resources in one transaction; batch.go decides what becomes of each.

// Limits of an apply and of its plan. The store takes as much in one transaction (store.MaxOps, store.MaxBytes).
const (
	maxApplied   = 1000    // resources
	maxApplyBody = 8 << 20 // bytes
)

// dryRun is the query parameter of writes that are to be checked and answered, and not done.
const (
	dryRun    = "dryRun"
	dryRunDoc = "1: check everything and answer as if it were done; nothing is stored, and what only storing gives is left out (uid, new revision)"
)

func (m *Master) applyRoutes() []route {
	body := reflect.TypeFor[applyBody]()
	return []route{
		{id: "planApply", method: "POST", path: "/v1/plan", who: forPeople, audit: true, summary: "What an apply of resources would change; stores nothing",
			body: body, limit: maxApplyBody, answer: reflect.TypeFor[api.ApplyPlan](), handle: m.plan},
		{id: "planRebalance", method: "GET", path: "/v1/rebalance", who: forPeople, summary: "The next moves of pods to better hosts, or why there are none; changes nothing",
			answer: reflect.TypeFor[api.RebalancePlan](), handle: m.nextMoves},
		{id: "apply", method: "POST", path: "/v1/apply", who: forPeople, audit: true, summary: "Create or replace resources in one transaction: all of them or none",
			body: body, limit: maxApplyBody, answer: reflect.TypeFor[api.Applied](), once: true, handle: m.once(m.apply), query: []queryParam{
				{dryRun, dryRunDoc}, {"ifRevision", "only if none of the resources was changed or deleted after this revision of the store, such as that of a plan"}}},
	}
}

// applyBody is api.ApplyRequest for OpenAPI, where a resource's shape depends on its kind.
type applyBody struct {
	Resources []map[string]any `json:"resources" doc:"As they would be applied; each has its kind" minItems:"1" maxItems:"1000"`
}

// apply answers POST /v1/apply.
func (m *Master) apply(c *call) error {
	since, err := c.number("ifRevision")
	if err != nil {
		return err
	}
	dry, err := c.flag(dryRun)
	if err != nil {
		return err
	}
	wishes, err := m.readWishes(c.body)
	if err != nil {
		return err
	}
	c.object = asked(wishes)
	// Like prompt of a route, but it takes its time to read a thousand resources, which has nothing to do with the store.
	ctx, cancel := context.WithTimeout(c.Context(), answerTime)
	defer cancel()
	for range maxAttempts {
		b, err := m.tryApply(ctx, wishes, c.who.String(), since, dry)
		if errors.Is(err, store.ErrConflict) {
			continue // as in put
		}
		if err != nil {
			return err
		}
		return answerApplied(c, b.results(), b.revision, dry)
	}
	return restless("one of the resources")
}

func (m *Master) tryApply(ctx context.Context, wishes []*wish, by string, since int64, dry bool) (*batch, error) {
	b, err := m.freshBatch(ctx)
	if err != nil {
		return nil, err
	}
	b.by = by
	if b.since = since; !m.cache.reached(since) {
		return nil, api.Errorf(api.CodeConflict, "the store has not come to revision %d: it is of another cluster, or of a time before a restore; look at the plan again (gear plan)", since)
	}
	if err := b.take(ctx, wishes...); err != nil || dry {
		return b, err
	}
	return b, b.store(ctx, onceRecord{Status: http.StatusOK, Applied: b.results()})
}

func (b *batch) results() []api.ResourceChange {
	out := make([]api.ResourceChange, len(b.wishes))
	for i, w := range b.wishes {
		out[i] = w.change()
	}
	return out
}

// answerApplied answers an apply; revision is that of what was written, which does not have it yet.
func answerApplied(c *call, list []api.ResourceChange, revision int64, dry bool) error {
	out := api.Applied{DryRun: dry, Resources: slices.Clone(list)}
	var all, changed []string
	for i := range out.Resources {
		r := &out.Resources[i]
		if all = append(all, r.Key().String()); r.Result == api.ResultUnchanged {
			continue
		}
		if changed = append(changed, fmt.Sprintf("%s %s", r.Key(), r.Result)); !dry {
			r.Revision, out.Revision = revision, revision
		}
	}
	if c.object, c.result = strings.Join(changed, ", "), "applied"; len(changed) == 0 {
		c.object, c.result = strings.Join(all, ", "), resultUnchanged
	}
	if dry {
		c.result = dryResult(c.result)
	}
	return c.answer(http.StatusOK, out)
}

// asked names resources for the audit record of an apply that is refused.
func asked(wishes []*wish) string {
	var out []string
	for _, w := range wishes {
		out = append(out, w.key().String())
	}
	return strings.Join(out, ", ")
}

// readWishes reads the body of an apply or a plan, as strictly as that of a single write, and gives what is wrong with any of
// its resources. They come in the order in which they depend on each other.
func (m *Master) readWishes(body []byte) ([]*wish, error) {
	var in struct {
		Resources []json.RawMessage `json:"resources"`
	}
	if err := api.Decode(body, &in); err != nil {
		return nil, err
	}
	if n := len(in.Resources); n == 0 || n > maxApplied {
		return nil, api.Invalid("the request", []api.Fault{{Field: "resources", Message: fmt.Sprintf("has %d; 1 to %d are allowed at once: apply them in parts", n, maxApplied)}})
	}
	var no refusals
	var out []*wish
	seen := map[api.Key]bool{}
	for i, text := range in.Resources {
		at := "resources[" + strconv.Itoa(i) + "]"
		w, err := m.readWish(at, text)
		if err == nil && seen[w.key()] {
			err = api.Invalid(w.key().String(), []api.Fault{{Field: "metadata.name", Message: w.key().String() + " is given twice"}})
		}
		if err := no.add(at, api.Key{}, err); err != nil {
			return nil, err
		}
		if err == nil {
			seen[w.key()], out = true, append(out, w)
		}
	}
	order := api.Kinds()
	slices.SortStableFunc(out, func(a, b *wish) int {
		return slices.Index(order, a.key().Kind) - slices.Index(order, b.key().Kind)
	})
	return out, no.err()
}

func (m *Master) readWish(at string, text []byte) (*wish, error) {
	var head struct {
		Kind api.Kind `json:"kind"`
	}
	_ = json.Unmarshal(text, &head) // what is wrong, api.Decode says
	r := api.New(head.Kind)
	if r == nil || head.Kind == api.KindPod {
		return nil, api.Invalid("the resource", []api.Fault{{Field: "kind", Message: fmt.Sprintf("%.40q cannot be applied; write one of %v but Pod", head.Kind, api.Kinds())}})
	}
	if err := api.Decode(text, r); err != nil {
		return nil, err
	}
	if err := complete(r, nil); err != nil {
		return nil, err
	}
	return m.newWish(at, r)
}
