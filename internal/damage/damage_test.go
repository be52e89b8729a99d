package damage_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"gearmesh.dev/internal/damage"
)

func TestTextSpoils(t *testing.T) {
	const text = `{"a": [1, {"b": "c"}], "d": null}` + "\n"
	r, kinds, same := rand.New(rand.NewPCG(1, 2)), map[string]bool{}, 0
	for range 2000 {
		what, bad := damage.Text(r, []byte(text))
		kind, _, _ := strings.Cut(what, " ")
		kinds[kind] = true
		if string(bad) == text {
			same++
		}
	}
	if len(kinds) < 8 || same > 200 {
		t.Errorf("%d kinds of damage, %d of 2000 were none: %v", len(kinds), same, kinds)
	}
}
