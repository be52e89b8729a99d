package unitgen

import "strings"

const header = "# written by gear, do not edit"

// Owned tells whether a unit file was written by this package.
func Owned(text string) bool { return strings.HasPrefix(text, header+"\n") }
