// Package fold makes rows out of valid groups: facts, control events, sums per stream and bucket of time, and where each stream stands.
// It is a pure function of the log, which is what makes the projections exact: no clock and no batch border enters a row.
//
// # Sums that survive any crash
//
// csns of a partition are cut into windows of 2^WindowBits. A [Partial] sums up one stream in one bucket and one window, from the first
// csn of the window up to what has been read, and its N says how many records that are. Whoever reads the same log, from wherever, in
// whatever batches, sums up a prefix of the same records; of two prefixes the one with the larger N holds the other. So the table keeps
// the row with the largest N, and nothing can be counted twice: not by a retry, not after a crash, not by a writer that woke up late.
// It takes a start at the first csn of a window: [Folder.Resume] is where to start again, and is never later than that.
//
// Minutes, hours and days are summed up side by side in the same way. Nothing has to be computed from the level below afterwards, so
// none of them trails.
//
// # Invariants
//
//   - F1 A row is a function of the valid records of its partition, from its window's start to a csn, and of nothing else.
//   - F2 Of two partials of the same key, the one with the larger N has summed up all that the other has.
//   - F3 Written rows and then [Folder.Resume]: a start from there writes all rows that a folder which never stopped would have written
//     since. Facts may come twice, the same both times.
//   - F4 No payload, no value of a record leaves: names of members, bounded; sizes; a keyed fingerprint.
//   - F5 Memory is bounded by the records of a window, and the names by namesMax.
//
// # Neighbours
//
// projections/follow gives the groups, projections/project writes the rows by projections/warehouse.
package fold
