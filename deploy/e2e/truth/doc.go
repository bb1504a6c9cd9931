// Package truth says what loading consecutive snapshots of one collection must give, worked out from the files alone. It is
// the other side of every end-to-end test on real data: what the product reports and serves is compared with it.
//
// # Invariants
//
//   - It shares no code with the product and uses nothing but the standard library: its JSON is encoding/json, its equality is
//     reflect.DeepEqual, its state is a map. A mistake would have to be made twice to go unseen.
//   - It is slow and simple on purpose. Whole files are in memory.
//
// # Rules
//
// A file is a full copy of the collection: what it leaves out is deleted. A record's id is its member "title" (a number stands
// for its literal text). Of several records with one title in a file, the last counts and the title is reported. Two values are
// equal when they are the same JSON value: the order of members does not matter, numbers are compared by their literal text, so
// 1 and 1.0 differ, and no number equals a string.
//
// # Neighbours
//
// The tests in package e2e and those of the command line and the processor that load real data. Nothing else imports it.
package truth
