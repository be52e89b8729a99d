package enginetest_test

import (
	"testing"

	"gearmesh.dev/geard/engine/enginetest"
)

func TestFake(t *testing.T) {
	enginetest.Contract(t, enginetest.New(enginetest.Programs()), func(string) {})
}
