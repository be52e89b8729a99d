package api

import (
	"strings"
	"testing"
)

func TestSelector(t *testing.T) {
	pod := &Pod{Header: Header{Kind: KindPod, Metadata: Metadata{Name: "web-1", Labels: map[string]string{"tier": "front", "empty": ""}}}}
	pod.Spec.Service, pod.Spec.Host = "web", "h1"
	host := &Host{Header: Header{Kind: KindHost, Metadata: Metadata{Name: "h1", Labels: map[string]string{"zone": "a"}}}}
	for _, c := range []struct {
		text      string
		pod, host bool
	}{
		{"", true, true}, {" ", true, true}, {"tier", true, false}, {"!tier", false, true}, {"tier=front", true, false}, {"tier==front", true, false},
		{"tier=back", false, false}, {"tier!=back", true, true}, {"tier != front", false, true}, {"empty", true, false}, {"empty=", true, false},
		{"service=web,host=h1", true, false}, {"host=h1", true, true}, {"host!=h2, zone=a", false, true}, {"service", true, false}, {"!service", false, true},
	} {
		s, err := ParseSelector(c.text)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
		}
		if s.Matches(pod) != c.pod || s.Matches(host) != c.host {
			t.Errorf("%q takes the pod: %t, the host: %t; want %t, %t", c.text, s.Matches(pod), s.Matches(host), c.pod, c.host)
		}
	}
	pod.Spec.Host = ""
	if s, _ := ParseSelector("!host"); !s.Matches(pod) {
		t.Error("a pod without a host has the label host")
	}
}

func TestSelectorRefuses(t *testing.T) {
	for _, text := range []string{",", "=a", "!", "!=a", "a=b,,c", "a\nb", "a=b\x00", "!a=b", strings.Repeat("a", 64), "a=" + strings.Repeat("b", 300), strings.Repeat("a,", 32) + "a"} {
		if s, err := ParseSelector(text); err == nil {
			t.Errorf("%q is taken as %+v", text, s)
		} else if strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("the error of %q has control characters: %q", text, err)
		}
	}
}
