package cli

import "slices"

// nearest returns the name closest to what was typed, or "" if none is close. Distance is that of Damerau and Levenshtein on
// adjacent swaps; a third of the letters may be wrong.
func nearest(typed string, names []string) string {
	best, at := "", max(1, (len(typed)+1)/3)+1
	for _, name := range slices.Sorted(slices.Values(names)) {
		if d := distance(typed, name); d < at {
			best, at = name, d
		}
	}
	return best
}

func distance(a, b string) int {
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}
