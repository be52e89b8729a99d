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

// edits counts the letters to add, drop, change, or swap with their neighbour, to make b out of a
// (Damerau-Levenshtein, optimal string alignment).
func edits(a, b string) int {
	var older []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next := make([]int, len(b)+1)
		next[0] = i + 1
		for j := range len(b) {
			change := row[j]
			if a[i] != b[j] {
				change++
			}
			next[j+1] = min(change, row[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], older[j-1]+1)
			}
		}
		older, row = row, next
	}
	return row[len(b)]
}
