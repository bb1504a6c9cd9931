// Package hot keeps the latest version of records in memory, so that a decision need not read R. It is a cache: losing it costs
// speed, never correctness. A table belongs to one stream of one writer and holds committed versions only; what is in flight is in
// the writer's overlay, which is asked first.
//
// A table has one of two forms. A full entry (56 bytes, plus 3 a field when changed-field names are on) answers everything: unchanged,
// changed, what the previous version was. A lean entry (24 bytes) answers only "unchanged"; a changed record then reads R. Tables
// start full and are made lean, then dropped, as the budget runs out; who goes first is the writer's choice. Entries lie close
// together, and an index of 5 to 10 bytes a record finds them (index.go, chunks.go): what is kept free for speed, and what growing
// copies, is small, and a stream that comes in the order in which it came before is read from memory in order.
//
// A table is complete if it holds every record of its stream; then a record that is not in it does not exist, and new records need no
// read either.
//
// The one dangerous mistake here is a stale entry: version 1 cached, the record is at version 2, version 1 is saved again, and a
// change is lost. So every committed change of the stream must be given to Put before its overlay entry goes.
package hot
