// Package cursor is the position that a reader of a stream stores. A cursor is opaque to clients and ordered as a string within
// its stream; it is also a Kafka position (partition and offset of the change), so that a reader can move between the HTTP API
// and the changes topic without loss.
//
// Invariants: a cursor never skips a committed change and never goes backwards (a cursor names a csn, and a change only ever moves
// its record to a higher csn); decoding never panics; every altered cursor of another stream is refused by its tag.
package cursor
