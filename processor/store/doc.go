// Package store is the local state and view of one partition: what the log says so far, in a form that can be asked. It is written
// by the partition's follower alone, group by valid group, and read by the writer (what is the latest version of this record?), by
// the API (pages of a stream after a csn) and by deletion detection (which records are live?).
//
// Parts, each with its own applied csn that is atomic with its data:
//
//	R         Pebble, one row a record: csn, hash, first seen, field hashes (version.go); with it the stream rows (stream.go)
//	versions  one roaring bitmap of csn a stream: the latest version of every record, and which of them are deletions (versions.go)
//	segments  payloads, in processor/segment
//
// Beside them lie two notes of this node's writer, which are no functions of the log and travel nowhere: how far raw was read without
// output, and what open runs have seen (seen.go).
//
// Nothing here is synced on the hot path, for the log can always be read again: after a crash each part is at an exact older
// prefix, the follower goes on from the smallest of them, and every part ignores what it already has.
//
// Invariants:
//
//	I1, I12  the state at applied csn c is a function of the log up to c, whatever was crashed, replayed or bootstrapped
//	I7       R rows and version bits are in bijection; live counts and digests equal what the rows say (Check)
//	I8       a page holds the latest version of each record; an update moves a record to a higher csn, never behind a cursor
//	I11      a payload is served iff its csn is above the prune floor of the partition and of the stream
//
// Locks: Store.mu guards the in-memory parts (streams, versions, positions). It is never held while reading Pebble or segments.
package store
