// Package damage spoils the text of state files for tests, as disks, power cuts and people do: it cuts them short,
// flips bits, writes zeros, makes values of another type, and makes files empty or huge.
package damage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// Huge is the size of a file that is too large to be anybody's state, in bytes.
const Huge = 9 << 20

// Text gives a spoilt copy of a file's text, and says in a few words how it was spoilt. The same r gives the same.
func Text(r *rand.Rand, data []byte) (what string, spoilt []byte) {
	bad := bytes.Clone(data)
	switch n := r.IntN(100); {
	case n < 20:
		at := r.IntN(len(bad) + 1)
		return fmt.Sprintf("cut after %d bytes", at), bad[:at]
	case n < 50:
		at, bit := r.IntN(max(len(bad), 1)), r.IntN(8)
		if len(bad) > 0 {
			bad[at] ^= 1 << bit
		}
		return fmt.Sprintf("bit %d of byte %d", bit, at), bad
	case n < 60:
		from := r.IntN(len(bad) + 1)
		to := from + r.IntN(len(bad)-from+1)
		clear(bad[from:to])
		return fmt.Sprintf("zeros from byte %d to %d", from, to), bad
	case n < 65:
		from := r.IntN(len(bad) + 1)
		return fmt.Sprintf("twice from byte %d", from), append(bad, bad[from:]...)
	case n < 70:
		text := pick(r, "", "\n", "null", "{}", "[]", "true", "0", `""`, `["x"]`, "\x00", "\xff\xfe", `{"":{}}`)
		return fmt.Sprintf("text %q", text), []byte(text)
	case n < 72:
		return "deep", []byte(strings.Repeat(pick(r, "[", `{"a":`), 1<<16))
	case n < 73:
		return "huge", append(bytes.Repeat([]byte(" "), Huge), bad...)
	}
	return retyped(r, data)
}

// retyped changes one value of a JSON text into one of another type. What comes after the first JSON value, such
// as a checksum, is left out: the text is sound.
func retyped(r *rand.Rand, data []byte) (string, []byte) {
	var v any
	if json.NewDecoder(bytes.NewReader(data)).Decode(&v) != nil {
		return "no JSON", []byte("no JSON")
	}
	left := r.IntN(count(v))
	where := ""
	v = replace(r, v, &left, "", &where)
	out, err := json.Marshal(v)
	if err != nil {
		panic(err) // it was decoded from JSON
	}
	return "another value at " + where, out
}

// count counts the values in v, itself among them.
func count(v any) int {
	n := 1
	switch v := v.(type) {
	case map[string]any:
		for _, x := range v {
			n += count(x)
		}
	case []any:
		for _, x := range v {
			n += count(x)
		}
	}
	return n
}

// replace replaces the value that comes after left others.
func replace(r *rand.Rand, v any, left *int, path string, where *string) any {
	if *left == 0 {
		*left--
		*where = path + "/"
		return other(r)
	}
	*left--
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if *left >= 0 {
				v[k] = replace(r, v[k], left, path+"/"+k, where)
			}
		}
	case []any:
		for i := range v {
			if *left >= 0 {
				v[i] = replace(r, v[i], left, fmt.Sprintf("%s/%d", path, i), where)
			}
		}
	}
	return v
}

// other gives a value of any type.
func other(r *rand.Rand) any {
	return pick[any](r, nil, true, -1, 1e300, 0.5, 1<<40, "", "x", "../../etc/passwd", "\x00", "256.1.1.1", []any{}, []any{nil}, map[string]any{}, map[string]any{"a": []any{1}})
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }
