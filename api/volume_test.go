package api

import "testing"

func TestVolume(t *testing.T) {
	for name, tt := range map[string]struct {
		v  Volume
		ok bool
	}{
		"plain":              {Volume{Name: "data"}, true},
		"all":                {Volume{Name: "data", Class: "fast", Size: 1, OnDelete: VolumeDelete}, true},
		"in memory":          {Volume{Name: "data", Tmpfs: true, Size: 1}, true},
		"no name":            {Volume{}, false},
		"a class that climb": {Volume{Name: "data", Class: "../x"}, false},
		"memory of a class":  {Volume{Name: "data", Class: "fast", Tmpfs: true}, false},
		"memory that stays":  {Volume{Name: "data", Tmpfs: true, OnDelete: VolumeKeep}, false},
		"another end":        {Volume{Name: "data", OnDelete: "burn"}, false},
	} {
		if err := tt.v.validate(); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if (&PodTemplate{Volumes: []Volume{{Name: "a", Tmpfs: true}}}).Stateful() || !(&PodTemplate{Volumes: []Volume{{Name: "a"}}}).Stateful() {
		t.Error("stateful is who has a volume that is bound to its host")
	}
}
