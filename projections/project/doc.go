// Package project keeps the projections up to date: it reads the changes topic, makes rows of it (projections/fold), and writes them where
// they can be asked (projections/warehouse, through the interface Store).
//
// The log is the buffer. While the store is away nothing is dropped and nothing is skipped: two batches wait in memory, reading stops,
// and the backlog grows in Kafka, where Status shows how long it may. When the store is back the projector goes on where it was. Nothing
// ever waits for the projector.
//
// # Exactly once
//
// Rows are written, and then the position behind them. A crash in between writes the same rows again, and the tables take the same rows
// for the same row (see projections/fold). So batches have no identity, retries no limit, and two projectors at once do no harm.
// Positions are stored beside the rows, not with Kafka: a store that is lost, emptied or restored from a backup then is behind, which
// is seen, and caught up.
//
// A server that was restarted may have lost what it had acknowledged last, if the power went. So behind a restart the projector goes back
// to where it was RewindAfterRestart before.
//
// # Invariants
//
//   - J1 A position is stored only after every row in front of it is.
//   - J2 What the store refuses is offered again, for ever, in the same order of batches; a batch is forgotten only once it is written.
//   - J3 Memory is bounded: two batches of at most Config.BatchRows rows and one group, and what the follower fetched ahead.
//   - J4 Reading starts at the start of a window, or, where the log is gone, behind what the store has summed up already; records that were
//     lost that way are counted and told.
//
// # Neighbours
//
// deploy/stack runs it. projections/follow reads; projections/warehouse is the Store.
package project
