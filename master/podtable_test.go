package master

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"gearmesh.dev/api"
)

// TestPodTable holds the table to a plain map through random changes.
func TestPodTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table, want := &podTable{}, map[api.Key]api.UID{}
		table.reset()
		names := rapid.SampledFrom([]api.Name{"a", "b", "c", "d"})
		uids := rapid.SampledFrom([]api.UID{"one", "two"})
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			p := api.New(api.KindPod).(*api.Pod)
			p.Metadata.Name, p.Metadata.UID = names.Draw(t, "name"), uids.Draw(t, "uid")
			said := podRecord{UID: uids.Draw(t, "said"), Status: api.PodStatus{Ready: true}}
			switch rapid.IntRange(0, 2).Draw(t, "step") {
			case 0:
				table.put(p.Key(), p, said)
				want[p.Key()] = p.Metadata.UID
			case 1:
				table.remove(p.Key())
				delete(want, p.Key())
			case 2:
				table.say(p.Key(), said)
				if i, ok := table.at[p.Key()]; ok && table.pods[i].Status.Ready != (said.UID == want[p.Key()]) {
					t.Fatalf("%s has the status of another", p.Key())
				}
			}
			if got := table.copied(t, rapid.Bool().Draw(t, "two at a time")); !reflect.DeepEqual(got, append([]api.Pod{}, table.pods...)) {
				t.Fatalf("the copy is %v, want %v", got, table.pods)
			}
			if len(table.pods) != len(want) || len(table.at) != len(want) {
				t.Fatalf("%d pods at %d places, want %d", len(table.pods), len(table.at), len(want))
			}
			for key, uid := range want {
				if got := table.pods[table.at[key]]; got.Key() != key || got.Metadata.UID != uid {
					t.Fatalf("at %s stands %+v", key, got.Metadata)
				}
			}
		}
	})
}

// copied takes a copy, and checks that nothing has changed the one before. Another one may be taken between its two parts.
func (t *podTable) copied(tt *rapid.T, another bool) []api.Pod {
	from, draft := t.draft()
	var was []api.Pod
	if from != nil {
		was = append(was, from.pods...)
	}
	if another {
		t.finish(t.draft())
	}
	got := t.finish(from, draft)
	if from != nil && !reflect.DeepEqual(append([]api.Pod{}, was...), append([]api.Pod{}, from.pods...)) {
		tt.Fatal("a copy was changed after it was given")
	}
	return append([]api.Pod{}, got...)
}
