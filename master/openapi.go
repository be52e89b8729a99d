package master

import (
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"gearmesh.dev/api"
)

// newOpenAPI opens the description of the API. The routes are decoded, checked and answered by
// this package (huma's own decoder lets unknown fields pass), so of huma there are the adapter,
// the schemas and the document.
func newOpenAPI(mux *http.ServeMux) huma.API {
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{Title: "Gearmesh", Version: api.Version,
			Description: "The master's API. Bodies are decoded strictly: unknown, doubled or wrongly cased keys are refused."},
		Components: &huma.Components{
			Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
			SecuritySchemes: map[string]*huma.SecurityScheme{
				"token":       {Type: "http", Scheme: "bearer", Description: "A person's token"},
				"certificate": {Type: "mutualTLS", Description: "A host's certificate"},
			},
		},
	}
	return humago.New(mux, huma.Config{OpenAPI: doc})
}

// neverNull says of the lists in a schema that they are never null: one without items is [], or left out.
func neverNull(s *huma.Schema) {
	if s == nil {
		return
	}
	if s.Type == huma.TypeArray {
		s.Nullable = false
	}
	neverNull(s.Items)
	for _, p := range s.Properties {
		neverNull(p)
	}
	if values, ok := s.AdditionalProperties.(*huma.Schema); ok {
		neverNull(values)
	}
}

// operation describes a route.
func operation(rt route, schemas huma.Registry) *huma.Operation {
	op := &huma.Operation{
		OperationID: rt.id, Method: rt.method, Path: rt.path, Summary: rt.summary,
		Tags: []string{tagOf(rt.path)}, Parameters: parameters(rt), Responses: map[string]*huma.Response{},
	}
	switch rt.who {
	case forPeople:
		op.Security = []map[string][]string{{"token": {}}}
	case forHost:
		op.Security = []map[string][]string{{"certificate": {}}}
	}
	if rt.body != nil {
		op.RequestBody = &huma.RequestBody{Required: true, Content: content("application/json", rt.body, schemas)}
	}
	ok := &huma.Response{Description: "Done"}
	if rt.answer != nil {
		kind := "application/json"
		if rt.stream {
			kind, ok.Description = "application/x-ndjson", "One document a line"
		}
		ok.Content = content(kind, rt.answer, schemas)
	}
	if rt.octets {
		ok.Content = map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}
	}
	if rt.method == http.MethodPut && rt.who == forPeople {
		ok.Headers = map[string]*huma.Param{"Gear-Result": {Description: "created, configured or unchanged",
			Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"created", "configured", "unchanged"}}}}
	}
	op.Responses[strconv.Itoa(max(rt.status, http.StatusOK))] = ok
	for status, what := range rt.also {
		r := &huma.Response{Description: what}
		if status != http.StatusNoContent {
			r.Content = ok.Content
		}
		op.Responses[strconv.Itoa(status)] = r
	}
	op.Responses["default"] = &huma.Response{Description: "An error (RFC 9457)",
		Content: content("application/problem+json", reflect.TypeFor[api.Error](), schemas)}
	return op
}

func content(kind string, t reflect.Type, schemas huma.Registry) map[string]*huma.MediaType {
	return map[string]*huma.MediaType{kind: {Schema: schemas.Schema(t, true, "Answer")}}
}

func parameters(rt route) []*huma.Param {
	var out []*huma.Param
	for segment := range strings.SplitSeq(rt.path, "/") {
		if name := strings.Trim(segment, "{}"); name != segment {
			out = append(out, &huma.Param{Name: name, In: "path", Required: true, Schema: nameSchema()})
		}
	}
	if rt.once {
		longest := maxOnceKey
		out = append(out, &huma.Param{Name: onceHeader, In: "header", Description: "Names the request: sent again within an hour, to whichever master, it has no second effect and the same answer",
			Schema: &huma.Schema{Type: huma.TypeString, MaxLength: &longest}})
	}
	for _, q := range rt.query {
		out = append(out, &huma.Param{Name: q.name, In: "query", Description: q.doc, Schema: &huma.Schema{Type: huma.TypeString}})
	}
	return out
}

func nameSchema() *huma.Schema {
	longest := api.MaxNameLen
	return &huma.Schema{Type: huma.TypeString, MaxLength: &longest, Pattern: "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"}
}

// nameKinds says of each kind's schema that its field kind has that one value.
func nameKinds(schemas huma.Registry) {
	for _, kind := range api.Kinds() {
		schema := schemas.Map()[string(kind)]
		if schema == nil {
			continue // in tests of other routes
		}
		own := *schema.Properties["kind"]
		own.Enum = []any{kind}
		schema.Properties["kind"] = &own
	}
}

// tagOf groups routes by the last kind in their path.
func tagOf(path string) string {
	tag := "master"
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/v1/"), "/") {
		switch segment {
		case "projects", "services", "pods", "hosts", "aliases", "secrets":
			tag = segment
		}
	}
	return tag
}
