package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"gearmesh.dev/api"
)

// resource is implemented by the pointers to the resource types.
type resource[T any] interface {
	*T
	api.Resource
}

// Result is what a Put did.
type Result string

// The results of a Put.
const (
	Created    Result = "created"
	Configured Result = "configured"
	Unchanged  Result = "unchanged"
)

// Get reads a resource of type T, such as api.Service, with its status. project is empty for
// projects and hosts.
func Get[T any, P resource[T]](ctx context.Context, c *Client, project, name api.Name) (*T, error) {
	out := new(T)
	path := append(collection(kindOf[T, P](), project), string(name))
	if _, err := c.do(ctx, request{method: http.MethodGet, path: path, idempotent: true}, out); err != nil {
		return nil, err
	}
	return out, nil
}

// ListOptions says what of a kind to list.
type ListOptions struct {
	Project  api.Name // of all projects when empty
	Selector string   // api.ParseSelector; everything when empty
	// PageSize is how many items are asked for at a time; all at once when 0. The pages are of one revision.
	PageSize int
}

// List reads all resources of type T, such as api.Service, in a project, or in all projects when
// it is empty, and the revision to watch from.
func List[T any, P resource[T]](ctx context.Context, c *Client, project api.Name) (api.List[T], error) {
	return ListWith[T, P](ctx, c, ListOptions{Project: project})
}

// ListWith is List with more to say. When the master has forgotten the list between two pages, it begins again, once.
func ListWith[T any, P resource[T]](ctx context.Context, c *Client, o ListOptions) (api.List[T], error) {
	all, err := listPages[T, P](ctx, c, o)
	if e := (*api.Error)(nil); o.PageSize > 0 && errors.As(err, &e) && e.Code == api.CodeGone {
		return listPages[T, P](ctx, c, o)
	}
	return all, err
}

func listPages[T any, P resource[T]](ctx context.Context, c *Client, o ListOptions) (api.List[T], error) {
	query := url.Values{}
	if o.Selector != "" {
		query.Set("selector", o.Selector)
	}
	if o.PageSize > 0 {
		query.Set("limit", strconv.Itoa(o.PageSize))
	}
	var all api.List[T]
	for {
		var page api.List[T]
		req := request{method: http.MethodGet, path: collection(kindOf[T, P](), o.Project), query: query, idempotent: true}
		if _, err := c.do(ctx, req, &page); err != nil {
			return all, err
		}
		all.Revision, all.Items = page.Revision, append(all.Items, page.Items...)
		if page.Continue == "" {
			return all, nil
		}
		query.Set("continue", page.Continue)
	}
}

// Get reads the resource with the key, with its status.
func (c *Client) Get(ctx context.Context, key api.Key) (api.Resource, error) {
	out := api.New(key.Kind)
	if _, err := c.do(ctx, request{method: http.MethodGet, path: pathOf(key), idempotent: true}, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Create makes a resource that does not exist yet, and gives it as it is stored.
func (c *Client) Create(ctx context.Context, r api.Resource) (api.Resource, error) {
	key := r.Head().Key()
	out := api.New(key.Kind)
	if _, err := c.do(ctx, request{method: http.MethodPost, path: collection(key.Kind, key.Project), body: r, once: true}, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Put creates or replaces a resource, and gives it as it is stored. With a Metadata.Revision it
// replaces exactly that one, else any.
func (c *Client) Put(ctx context.Context, r api.Resource) (api.Resource, Result, error) {
	h := r.Head()
	out := api.New(h.Kind)
	req := request{method: http.MethodPut, path: pathOf(h.Key()), body: r, once: true}
	header, err := c.do(ctx, req, out)
	if err != nil {
		return nil, "", err
	}
	return out, Result(header.Get("Gear-Result")), nil
}

// ApplyOptions says how an apply is done.
type ApplyOptions struct {
	// IfRevision refuses the whole when any of the resources has changed after this revision of the store, such as that of a
	// plan; 0 for never.
	IfRevision int64
	DryRun     bool // check and answer as if it were done, and store nothing
}

// Apply creates or replaces resources in one transaction: all of them, or none. The answer is in the order in which they
// depend on each other.
func (c *Client) Apply(ctx context.Context, resources []api.Resource, o ApplyOptions) (api.Applied, error) {
	req := request{method: http.MethodPost, path: []string{"v1", "apply"}, body: api.ApplyRequest{Resources: resources}, query: url.Values{}, once: true}
	if o.IfRevision != 0 {
		req.query.Set("ifRevision", strconv.FormatInt(o.IfRevision, 10))
	}
	if o.DryRun {
		req.query.Set("dryRun", "1")
	}
	var out api.Applied
	_, err := c.do(ctx, req, &out)
	return out, err
}

// planTime bounds the plan of an apply: the controllers work it out twice.
const planTime = time.Minute

// Plan tells what an Apply of the resources would change, in their order. Nothing is stored.
func (c *Client) Plan(ctx context.Context, resources []api.Resource) (api.ApplyPlan, error) {
	var out api.ApplyPlan
	_, err := c.do(ctx, request{method: http.MethodPost, path: []string{"v1", "plan"}, body: api.ApplyRequest{Resources: resources}, idempotent: true, timeout: planTime}, &out)
	return out, err
}

// Delete asks for the deletion of a resource, when it is at the revision or the revision is 0. The
// answer is the resource as it was; one with pods stays, marked, until they are gone.
func (c *Client) Delete(ctx context.Context, key api.Key, revision int64) (api.Resource, error) {
	req := request{method: http.MethodDelete, path: pathOf(key), once: true}
	if revision != 0 {
		req.query = url.Values{"revision": {strconv.FormatInt(revision, 10)}}
	}
	out := api.New(key.Kind)
	if _, err := c.do(ctx, req, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Expel removes a host at once, as one that was broken into: what it says does not count any more.
func (c *Client) Expel(ctx context.Context, host api.Name) error {
	key := api.Key{Kind: api.KindHost, Name: host}
	_, err := c.do(ctx, request{method: http.MethodDelete, path: pathOf(key), query: url.Values{"now": {"1"}}, once: true}, nil)
	return err
}

func kindOf[T any, P resource[T]]() api.Kind {
	switch any(P(nil)).(type) {
	case *api.Project:
		return api.KindProject
	case *api.Host:
		return api.KindHost
	case *api.Service:
		return api.KindService
	case *api.Secret:
		return api.KindSecret
	case *api.Alias:
		return api.KindAlias
	}
	return api.KindPod
}

// plural gives a kind as it stands in paths.
func plural(k api.Kind) string {
	if k == api.KindAlias {
		return "aliases"
	}
	return strings.ToLower(string(k)) + "s"
}

// collection gives the path of a list.
func collection(k api.Kind, project api.Name) []string {
	if project == "" {
		return []string{"v1", plural(k)}
	}
	return []string{"v1", "projects", string(project), plural(k)}
}

func pathOf(key api.Key) []string {
	return append(collection(key.Kind, key.Project), string(key.Name))
}
