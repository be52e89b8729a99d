package client_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

func event(kind, name string, revision int) string {
	return fmt.Sprintf(`{"type":%q,"revision":%d,"object":{"kind":"Service","metadata":{"project":"shop","name":%q}}}`, kind, revision, name)
}

func syncAt(revision int) string { return fmt.Sprintf(`{"type":"sync","revision":%d}`, revision) }

const tooSlow = `{"type":"error","revision":0,"error":{"code":"Gone","status":410,"detail":"list again"}}`

// TestWatch plays the connections of a watch, one after another, and checks what the caller sees
// and from where each connection goes on. The event "end" closes every play.
func TestWatch(t *testing.T) {
	end := event("put", "end", 99)
	tests := map[string]struct {
		from        int64
		connections []http.HandlerFunc
		want        []string // type name@revision, or a word of an error
		asked       []string // revision of each request
	}{
		"lists, then changes": {0,
			[]http.HandlerFunc{streams(waits, event("put", "a", 3), syncAt(5), event("delete", "a", 6), end)},
			[]string{"put a@3", "sync@5", "delete a@6", "put end@99"}, []string{""}},
		"goes on where it was": {0,
			[]http.HandlerFunc{streams(nil, syncAt(5), event("put", "a", 6), event("put", "b", 7)), streams(waits, event("put", "b", 7), end)},
			[]string{"sync@5", "put a@6", "put b@7", "put b@7", "put end@99"}, []string{"", "6"}},
		"a change of two objects cut in half": {0,
			[]http.HandlerFunc{streams(cut, syncAt(5), event("put", "a", 6)), streams(waits, event("put", "a", 6), event("put", "b", 6), end)},
			[]string{"sync@5", "put a@6", "reading its stream", "put a@6", "put b@6", "put end@99"}, []string{"", "5"}},
		"cut within the list": {0,
			[]http.HandlerFunc{streams(cut, event("put", "a", 3)), streams(waits, event("put", "b", 3), syncAt(8), end)},
			[]string{"put a@3", "reading its stream", "put b@3", "delete a@8", "sync@8", "put end@99"}, []string{"", ""}},
		"410 lists again and finds what is gone": {0,
			[]http.HandlerFunc{streams(nil, event("put", "a", 3), event("put", "b", 4), event("put", "c", 5), syncAt(5), event("delete", "c", 6)),
				fails(api.CodeGone), streams(waits, event("put", "b", 4), event("put", "d", 70), syncAt(80), end)},
			[]string{"put a@3", "put b@4", "put c@5", "sync@5", "delete c@6", "put b@4", "put d@70", "delete a@80", "sync@80", "put end@99"}, []string{"", "5", ""}},
		"too slow": {0,
			[]http.HandlerFunc{streams(nil, event("put", "a", 3), syncAt(5), tooSlow), streams(waits, syncAt(80), end)},
			[]string{"put a@3", "sync@5", "delete a@80", "sync@80", "put end@99"}, []string{"", ""}},
		"410 from a list of the caller's": {7,
			[]http.HandlerFunc{fails(api.CodeGone)}, []string{"it is so"}, []string{"7"}},
		"from a list of the caller's": {7,
			[]http.HandlerFunc{streams(cut, event("put", "a", 8)), streams(waits, end)},
			[]string{"put a@8", "reading its stream", "put end@99"}, []string{"7", "7"}},
		"503 is tried again": {0,
			[]http.HandlerFunc{fails(api.CodeUnavailable), streams(waits, end)}, []string{"it is so", "put end@99"}, []string{"", ""}},
		"401 is not": {0,
			[]http.HandlerFunc{fails(api.CodeUnauthorized)}, []string{"it is so"}, []string{""}},
		"garbage": {0,
			[]http.HandlerFunc{streams(waits, "<html>")}, []string{"something else listens there"}, []string{""}},
		"an object of a later version": {0,
			[]http.HandlerFunc{streams(waits, `{"type":"put","revision":3,"object":{"kind":"Job"}}`)}, []string{"does not know"}, []string{""}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, inTurn(tt.connections...))
			var got []string
			for e, err := range s.client(t).Watch(t.Context(), client.WatchOptions{Revision: tt.from}) {
				got = append(got, spell(e, err))
				if e.Revision == 99 {
					break
				}
			}
			wantWords(t, got, tt.want)
			var asked []string
			for _, call := range s.calls() {
				_, revision, _ := strings.Cut(call.uri, "revision=")
				asked = append(asked, revision)
			}
			if strings.Join(asked, ",") != strings.Join(tt.asked, ",") {
				t.Errorf("asked from %q, want %q", asked, tt.asked)
			}
		})
	}
}

func spell(e client.Event, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case e.Object == nil:
		return fmt.Sprintf("%s@%d", e.Type, e.Revision)
	}
	return fmt.Sprintf("%s %s@%d", e.Type, e.Object.Head().Metadata.Name, e.Revision)
}

func TestWatchOptions(t *testing.T) {
	s := serve(t, streams(waits, syncAt(1)))
	for range s.client(t).Watch(t.Context(), client.WatchOptions{Kinds: []api.Kind{api.KindAlias, api.KindPod}, Project: "shop", Revision: 3}) {
		break
	}
	if uri := s.calls()[0].uri; uri != "/v1/watch?kinds=aliases%2Cpods&project=shop&revision=3" {
		t.Errorf("asked for %s", uri)
	}
}
