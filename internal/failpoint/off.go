//go:build !failpoints

package failpoint

// Hit does nothing in this build.
func Hit(Name) error { return nil }

// Count does nothing in this build.
func Count(string) (stop func()) { return func() {} }
