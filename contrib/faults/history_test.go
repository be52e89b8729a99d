package main

import (
	"testing"
	"time"
)

// at gives an access with its times in milliseconds.
func at(call, done int, a access) access {
	a.key, a.call, a.done = "k", time.Duration(call)*time.Millisecond, time.Duration(done)*time.Millisecond
	return a
}

func wrote(v string, rev int64) access { return access{write: true, value: v, revision: rev} }
func saw(v string, rev int64) access   { return access{value: v, revision: rev} }
func maybe(v string) access            { return access{write: true, value: v, unknown: true} }

func TestHistoriesAreJudged(t *testing.T) {
	for name, c := range map[string]struct {
		list []access
		good bool
	}{
		"one after another":             {[]access{at(0, 1, wrote("a", 2)), at(2, 3, saw("a", 2)), at(4, 5, wrote("b", 3)), at(6, 7, saw("b", 3))}, true},
		"an acknowledged write is lost": {[]access{at(0, 1, wrote("a", 2)), at(2, 3, wrote("b", 3)), at(4, 5, saw("a", 3))}, false},
		"a read of before":              {[]access{at(0, 1, wrote("a", 2)), at(2, 3, saw("", 2))}, false},
		"at the same time, any order":   {[]access{at(0, 9, wrote("a", 2)), at(0, 9, wrote("b", 3)), at(1, 8, saw("b", 3)), at(10, 11, saw("b", 3))}, true},
		"read new, then old":            {[]access{at(0, 1, wrote("a", 2)), at(2, 20, wrote("b", 3)), at(3, 4, saw("b", 3)), at(5, 6, saw("a", 3))}, false},
		"no answer, done later":         {[]access{at(0, 1, wrote("a", 2)), at(2, 3, maybe("b")), at(4, 5, saw("a", 2)), at(6, 7, saw("b", 3))}, true},
		"no answer, done twice":         {[]access{at(2, 3, maybe("b")), at(4, 5, saw("b", 3)), at(6, 7, wrote("c", 4)), at(8, 9, saw("b", 5))}, false},
		"no answer, never seen":         {[]access{at(0, 1, wrote("a", 2)), at(2, 3, maybe("b")), at(4, 5, saw("a", 2))}, true},
		"the revision goes back":        {[]access{at(0, 1, wrote("a", 5)), at(2, 3, saw("a", 4))}, false},
	} {
		if err := judge(c.list); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
