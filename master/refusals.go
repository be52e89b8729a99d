package master

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"gearmesh.dev/api"
)

// maxFaults bounds the faults of an answer; nobody mends more at a time, and clients read no answer without end.
const maxFaults = 100

// refusals gathers why resources of one request are refused, so that people see all of it at once.
type refusals struct {
	list []*api.Error // their faults begin with where the resource stands
	keys map[api.Key]bool
}

// add takes in why the resource at a place of the request is refused, and gives back an error that is no refusal. What may
// only be wrong because something else is, is left out: nothing can be said of what is in a project that is refused itself.
func (r *refusals) add(at string, key api.Key, err error) error {
	var e *api.Error
	if err != nil && !errors.As(err, &e) {
		return err
	}
	if e == nil || r.keys[projectOf(key)] {
		return nil
	}
	if r.keys == nil {
		r.keys = map[api.Key]bool{}
	}
	r.keys[key] = true
	r.list = append(r.list, within(at, e))
	return nil
}

func projectOf(k api.Key) api.Key { return api.Key{Kind: api.KindProject, Name: k.Project} }

// err gives one error for all: the only one, or one that has the faults of all.
func (r *refusals) err() error {
	switch len(r.list) {
	case 0:
		return nil
	case 1:
		return r.list[0]
	}
	code := r.list[0].Code
	var faults []api.Fault
	for _, e := range r.list {
		if e.Code != code {
			code = api.CodeInvalid
		}
		if len(e.Faults) == 0 {
			at, why, _ := strings.Cut(e.Detail, ": ")
			faults = append(faults, api.Fault{Field: at, Message: why})
		}
		faults = append(faults, e.Faults...)
	}
	if n := len(faults); n > maxFaults {
		faults = append(faults[:maxFaults], api.Fault{Field: "resources", Message: fmt.Sprintf("%d more faults are not shown", n-maxFaults)})
	}
	out := api.Errorf(code, "%d of the resources are refused, so that nothing is stored", len(r.list))
	out.Faults = faults
	return out
}

// within puts the faults of an error below a field; "" leaves them as they are.
func within(at string, e *api.Error) *api.Error {
	if at == "" {
		return e
	}
	out := *e
	out.Faults = slices.Clone(e.Faults)
	for i := range out.Faults {
		out.Faults[i].Field = at + "." + out.Faults[i].Field
	}
	if len(out.Faults) == 0 {
		out.Detail = at + ": " + out.Detail
	}
	return &out
}
