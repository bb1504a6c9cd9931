// Package warehouse is the ClickHouse side of the projections: tables, views, and everything that is written to them. Nothing else in
// Tidemark knows the SQL of tables; readers know the views, whose names begin with v1_, and their columns.
//
// # Tables
//
// A generation is a set of tables that one meaning of the rows fills: changes_gN (facts, one a change), changes_1m_gN, changes_1h_gN,
// changes_1d_gN (partials: sums per stream, bucket of time and window of csns), events_gN (control records) and stream_state_gN. Another
// sort key, another sum, another window size is another generation, filled beside the old one; then the views are made to read it. Tables
// are never altered in place but to add columns.
//
// Rows come from the changes topic alone, at least once and in any order, in batches of any borders, from writers that may not know that
// they have been replaced. What makes that exact:
//
//   - P1 Every row is a function of the log. A fact's key is its stream, record and (partition, csn); an event's is its stream and
//     (partition, csn, op, time, term). Writing one twice leaves one: the tables are ReplacingMergeTree, and views read FINAL, or compute
//     what repetition cannot change (max, distinct csns). A partial's key is (stream, bucket, first csn of the window), and its version the
//     number of records behind it. All writers sum the same records in the same order, so of two partials the one with the larger number
//     has seen all that the other has; at equal numbers they are equal.
//   - P2 Nothing rests on the server's deduplication of inserts, which is switched off in tables and inserts: a server may remember an
//     insert that it lost in a crash, and then drop its repetition.
//   - P3 All rows with one key have one value of the partition expression, since both are functions of the record. So FINAL need not merge
//     across partitions, and the views tell the server so. All columns of a fact are functions of its key, so conditions on them may be
//     applied before FINAL; the views say that, too. Of partials that holds for the columns of the key alone.
//   - P4 Progress is stored after the rows that it is about were acknowledged. A writer that starts from it repeats rows, and skips none.
//   - P5 A server that was started again may have lost what it acknowledged last, for it does not sync to disk. LoadProgress says so, and
//     gives an earlier position to go back to.
//   - P6 An erasure is recorded before rows are deleted, and its deletion repeated by Purge, so rows that were on their way when it was
//     recorded go as well.
//   - P7 Counts come from windows that end at or below the stored progress when they are audited: there, sums of facts and of each level
//     of partials are equal.
//   - P8 Views are a contract: columns are added at the end, nothing else changes. testdata/views.golden says what there is.
//
// # Servers
//
// The statements have run on the engine of ClickHouse 26.7, embedded; all of its tests do. What other topologies get (testdata has the
// differences) follows ClickHouse's documentation and has not run on such servers: replicated engines, ON CLUSTER, quorum inserts, the native
// protocol. All topologies have one shard.
//
// # Privacy
//
// No payload, no value of a field, no header and no secret is stored; the fingerprint of a payload is keyed. Names of top-level members,
// record ids and at most 2 KiB of a control record's detail are.
//
// # Neighbours
//
// projections/fold makes the rows, projections/project brings them here. deploy/devclickhouse is the embedded server.
package warehouse
