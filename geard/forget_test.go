package geard

import (
	"maps"
	"slices"
	"testing"
	"time"

	"gearmesh.dev/api"
)

func TestForgetGone(t *testing.T) {
	var want api.Pod
	want.Metadata.UID = "wanted"
	then := map[api.UID]podWork{"wanted": {}, "on-disk": {}, "was-busy": {busy: true}, "busy": {}, "gone": {}, "gone-later": {retry: time.Now()}}
	a := &Agent{pods: map[api.UID]*podWork{"new": {}}}
	for uid, w := range then {
		a.pods[uid] = &w
	}
	a.pods["was-busy"].busy = false // its task has ended since, and may have put it on disk
	a.pods["busy"].busy = true
	a.forgetGone(sight{want: []api.Pod{want}, tasks: then, disk: map[api.UID]held{"on-disk": {}}})
	if left := slices.Sorted(maps.Keys(a.pods)); !slices.Equal(left, []api.UID{"busy", "new", "on-disk", "wanted", "was-busy"}) {
		t.Errorf("remembered are %q", left)
	}
}
