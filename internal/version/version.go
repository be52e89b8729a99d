// Package version holds the version that make build sets.
package version

// Version is the git description of the build, "dev" without one.
var Version = "dev"
