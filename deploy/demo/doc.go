// Package demo holds the data that the demo syncs: four snapshots of a real collection, in the binary, so that the demo needs
// neither a network nor a file. brands/README.md names the source and the licence, and says what loading them must give.
//
// # Invariants
//
//   - The files are full copies of one collection, in the order of their names, and each differs from the one before by
//     additions, updates and deletions; the last has titles that occur twice.
//   - Their bytes are those of the source. The demo goes through the same path as any bulk load.
//
// # Neighbours
//
// The composition of the demo reads the snapshots; package ingest/bulk decodes them. This package imports neither.
package demo
