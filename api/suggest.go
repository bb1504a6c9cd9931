package api

import "strings"

// nearest returns the known name that a misspelt one most likely means, or "" if none is near: at most a third of its letters
// off, and upper case, "-", "_" and brackets not counted.
func nearest(name string, known []string) string {
	const lengthMax = 64 // longer names are no slip of the pen, and the comparison costs the product of the lengths
	if len(name) > lengthMax {
		return ""
	}
	plain := strings.NewReplacer("_", "", "-", "", "[", "", "]", "")
	a := plain.Replace(strings.ToLower(name))
	best, bestOff := "", 0
	for _, k := range known {
		b := plain.Replace(strings.ToLower(k))
		off := distance(a, b)
		if off > max(1, len(b)/3) {
			continue
		}
		if best == "" || off < bestOff {
			best, bestOff = k, off
		}
	}
	return best
}

// distance is the number of bytes to insert, delete, replace or swap with their neighbour to turn a into b (optimal string
// alignment).
func distance(a, b string) int {
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}
