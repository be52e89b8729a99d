package unitgen

import (
	"strings"

	"gearmesh.dev/api"
)

const (
	header = "# written by gear, do not edit"
	uidKey = "uid"
)

// Owned tells whether a unit file was written by this package.
func Owned(text string) bool { return strings.HasPrefix(text, header+"\n") }

// OwnerUID reads from the head of a unit file which pod it belongs to, or "" when it is a project's slice or
// no file of ours.
func OwnerUID(text string) api.UID {
	if !Owned(text) {
		return ""
	}
	line, _, _ := strings.Cut(text[len(header)+1:], "\n")
	uid, ok := strings.CutPrefix(line, "# "+uidKey+": ")
	if !ok || api.UID(uid).Validate() != nil {
		return ""
	}
	return api.UID(uid)
}
