package api

import (
	"slices"
	"strings"
)

// Nearest gives the candidate that word was most likely meant to be, or "" when none is near:
// the one with the fewest edits (at most a third of the word's length), ignoring case.
func Nearest(word string, candidates []string) string {
	best, bestEdits := "", max(1, len(word)/3)+1
	for _, c := range slices.Sorted(slices.Values(candidates)) {
		if n := edits(strings.ToLower(word), strings.ToLower(c)); n < bestEdits {
			best, bestEdits = c, n
		}
	}
	return best
}

// edits is the Levenshtein distance of a and b.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
