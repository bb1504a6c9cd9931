//go:build race

package segment

// poison overwrites memory that goes back to a pool, so that under the race detector a reader that kept it sees garbage, and the
// detector sees the write.
func poison(b []byte) {
	for i := range b {
		b[i] = 0xdb
	}
}
