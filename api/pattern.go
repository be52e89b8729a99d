package api

import (
	"regexp"
	"sync"
)

// pattern is a regular expression that is compiled when it is first asked. gear-run starts several times a pod and asks none
// on most ways; compiling all of them was a third of its start.
type pattern struct {
	text    string
	compile sync.Once
	re      *regexp.Regexp
}

func newPattern(text string) *pattern { return &pattern{text: text} }

// MatchString tells whether the expression, which must be right, matches s.
func (p *pattern) MatchString(s string) bool {
	p.compile.Do(func() { p.re = regexp.MustCompile(p.text) })
	return p.re.MatchString(s)
}
