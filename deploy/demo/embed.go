package demo

import (
	"embed"
	"io"
	"path"
)

//go:embed brands/*.json.gz
var files embed.FS

// Snapshot is one full copy of the collection: a gzip-compressed JSON array of objects, identified by their member "title".
type Snapshot struct {
	Name string                        // file name, such as 2020-07.json.gz: the month of the copy
	Open func() (io.ReadCloser, error) // the file from its first byte, compressed as it is; any number may be open at once
}

// Snapshots gives the snapshots in the order in which they were taken. Safe for concurrent use.
func Snapshots() []Snapshot {
	entries, err := files.ReadDir("brands") // sorted by name, and the names are dates
	if err != nil {
		panic("reading the embedded snapshots: " + err.Error()) // the directive above has put them there
	}
	all := make([]Snapshot, len(entries))
	for i, e := range entries {
		all[i] = Snapshot{
			Name: e.Name(),
			Open: func() (io.ReadCloser, error) { return files.Open(path.Join("brands", e.Name())) },
		}
	}
	return all
}
