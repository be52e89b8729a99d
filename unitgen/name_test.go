package unitgen_test

import (
	"os/exec"
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/unitgen"
)

func TestNames(t *testing.T) {
	tests := map[string][2]string{
		"project slice":   {unitgen.ProjectSlice("my-shop"), `gear-my\x2dshop.slice`},
		"pod slice":       {unitgen.PodSlice("my-shop", "web-7f3k2"), `gear-my\x2dshop-web\x2d7f3k2.slice`},
		"network":         {unitgen.NetUnit("shop", "web-7f3k2"), "gear-shop-web-7f3k2-net.service"},
		"first container": {unitgen.ContainerUnit("shop", "web-7f3k2", "main", true), "gear-shop-web-7f3k2.service"},
		"other container": {unitgen.ContainerUnit("shop", "web-7f3k2", "log", false), "gear-shop-web-7f3k2-log.service"},
	}
	for what, tt := range tests {
		if tt[0] != tt[1] {
			t.Errorf("%s is %q, want %q", what, tt[0], tt[1])
		}
	}
}

func TestLongNamesStayDistinctAndShort(t *testing.T) {
	long := func(end string) api.Name { return api.Name("a" + strings.Repeat("-", 61) + end) }
	one, two := unitgen.PodSlice(long("a"), long("a")), unitgen.PodSlice(long("a"), long("b"))
	if one == two {
		t.Errorf("two pods share the slice %q", one)
	}
	parent := strings.TrimSuffix(unitgen.ProjectSlice(long("a")), ".slice")
	for _, n := range []string{one, two} {
		if len(n) > 255 {
			t.Errorf("%q has %d bytes; at most 255 are a unit name", n, len(n))
		}
		if !strings.HasPrefix(n, parent+"-") || strings.Count(n, "-") != 2 {
			t.Errorf("%q does not nest in %q", n, parent)
		}
	}
}

// systemd-escape is the oracle of Escape.
func TestEscapeAsSystemdDoes(t *testing.T) {
	words := []string{"web", "my-shop", "a--b", "x/y", ".hidden", "a.b", `back\slash`, "sp ace", "ü", "a:b_c@d", "%n$"}
	out, err := exec.Command("systemd-escape", append([]string{"--"}, words...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSuffix(string(out), "\n"), " ")
	for i, w := range words {
		if got := unitgen.Escape(w); got != want[i] {
			t.Errorf("Escape(%q) is %q, systemd-escape gives %q", w, got, want[i])
		}
	}
}
