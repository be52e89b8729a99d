package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

// kindWords gives the word for each kind: as people write it, and for many.
func kindWords(k api.Kind) (one, many string) {
	one = strings.ToLower(string(k))
	if k == api.KindAlias {
		return one, "aliases"
	}
	return one, one + "s"
}

func allKindWords() []string {
	var out []string
	for _, k := range api.Kinds() {
		_, many := kindWords(k)
		out = append(out, many)
	}
	return out
}

// parseKind reads a kind: one, many, or the start of it when only one kind starts so.
func parseKind(c *cobra.Command, word string) (api.Kind, error) {
	var starts []api.Kind
	for _, k := range api.Kinds() {
		one, many := kindWords(k)
		switch w := strings.ToLower(word); {
		case w == one || w == many:
			return k, nil
		case w != "" && strings.HasPrefix(many, w):
			starts = append(starts, k)
		}
	}
	if len(starts) == 1 {
		return starts[0], nil
	}
	if len(starts) > 1 {
		var words []string
		for _, k := range starts {
			one, _ := kindWords(k)
			words = append(words, one)
		}
		return "", usageError(c, "kind %q could be %s", word, strings.Join(words, " or "))
	}
	known := allKindWords()
	return "", usageError(c, "there is no kind %q%s; there are %s", word, didYouMean(word, known), strings.Join(known, ", "))
}

// listKind reads all resources of a kind, of a project or of all when it is empty, sorted.
func listKind(ctx context.Context, c *client.Client, k api.Kind, project api.Name) ([]api.Resource, int64, error) {
	return selectKind(ctx, c, k, client.ListOptions{Project: project})
}

// selectKind lists what the options say of a kind.
func selectKind(ctx context.Context, c *client.Client, k api.Kind, o client.ListOptions) ([]api.Resource, int64, error) {
	if !k.InProject() {
		o.Project = ""
	}
	switch k {
	case api.KindProject:
		return listed[api.Project](ctx, c, o)
	case api.KindHost:
		return listed[api.Host](ctx, c, o)
	case api.KindService:
		return listed[api.Service](ctx, c, o)
	case api.KindSecret:
		return listed[api.Secret](ctx, c, o)
	case api.KindAlias:
		return listed[api.Alias](ctx, c, o)
	}
	return listed[api.Pod](ctx, c, o)
}

func listed[T any, P interface {
	*T
	api.Resource
}](ctx context.Context, c *client.Client, o client.ListOptions) ([]api.Resource, int64, error) {
	list, err := client.ListWith[T, P](ctx, c, o)
	if err != nil {
		return nil, 0, err
	}
	out := make([]api.Resource, len(list.Items))
	for i := range list.Items {
		out[i] = P(&list.Items[i])
	}
	slices.SortFunc(out, byProject)
	return out, list.Revision, nil
}

// find reads the resource that a name stands for: NAME, PROJECT/NAME, or the start of a name that
// only one has.
func (a *app) find(ctx context.Context, c *client.Client, k api.Kind, word string) (api.Resource, error) {
	key, err := a.key(ctx, c, k, word)
	if err != nil {
		return nil, err
	}
	r, err := c.Get(ctx, key)
	var e *api.Error
	if err == nil || !errors.As(err, &e) || e.Code != api.CodeNotFound {
		return r, err
	}
	others, _, listErr := listKind(ctx, c, k, key.Project)
	if listErr != nil {
		return nil, errors.Join(err, listErr)
	}
	return a.meant(key, others)
}

// meant finds the resource with the key's name, or the only one whose name starts so.
func (a *app) meant(key api.Key, others []api.Resource) (api.Resource, error) {
	var starts, names []string
	var found api.Resource
	for _, o := range others {
		name := string(o.Head().Metadata.Name)
		names = append(names, name)
		if name == string(key.Name) {
			return o, nil
		}
		if strings.HasPrefix(name, string(key.Name)) {
			starts, found = append(starts, name), o
		}
	}
	_, many := kindWords(key.Kind)
	p := problem{what: fmt.Sprintf("there is no %s%s", key, didYouMean(string(key.Name), names)), code: exitNotFound,
		try: "gear get " + many + projectFlag(key.Project)}
	switch {
	case len(starts) == 1:
		return found, nil
	case len(starts) > 1:
		p.why = "several names start so: " + strings.Join(starts, ", ")
	}
	return nil, p
}

// key reads a name from the command line.
func (a *app) key(ctx context.Context, c *client.Client, k api.Kind, word string) (api.Key, error) {
	one, _ := kindWords(k)
	project, name, ok := strings.Cut(word, "/")
	switch {
	case !k.InProject():
		n, err := checkedName(one, word)
		return api.Key{Kind: k, Name: n}, err
	case !ok:
		n, err := checkedName(one, word)
		if err != nil {
			return api.Key{}, err
		}
		p, err := a.inProject(ctx, c)
		return api.Key{Kind: k, Project: p, Name: n}, err
	}
	p, err := checkedName("project", project)
	if err != nil {
		return api.Key{}, err
	}
	n, err := checkedName(one, name)
	return api.Key{Kind: k, Project: p, Name: n}, err
}
