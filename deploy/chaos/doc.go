// Package chaos holds tests that treat the built binary badly and look at it from outside: they kill it, stop it, fill its disk,
// damage its files, feed it poison, and then ask the log and GET /records whether anything is missing, doubled or wrong. It has no
// code but tests.
//
// # What is checked
//
//   - Every event that the broker acknowledged is on the raw topic, once, where it was acknowledged. Producers outlive the processes.
//   - The valid records of the changes topic are what processor/model says that must come out of the raw topic: nothing missing,
//     nothing doubled, no false delete (I1-I6, I9).
//   - What anybody has ever read from a topic is there at the end, at the same offset (I10).
//   - A page holds the latest version of each record, as the log has it; so does the rest of the pages from any cursor that was ever
//     handed out, and so does the copy of a client that never stopped reading (I8, I12).
//   - No process has ended by itself, panicked, reported a data race, or logged an error that the test did not provoke.
//
// # How
//
//	binary_test.go    builds the binary, once a run of the tests
//	process_test.go   an installation: one directory, fixed addresses, one process after the other
//	feed_test.go      producers: random syncs (model.Workload) and syncs whose deletions take several sweep chunks
//	tape_test.go      consumers that never stop, and what they read
//	audit_test.go     the reference model and the ledger over the tapes
//	reader_test.go    clients of GET /records that never stop, and the cursors that they were given
//
// Children listen on loopback, on ports below those that the kernel hands out, and end with the test, whichever way it ends.
//
// # Settings
//
//	TIDEMARK_CHAOS_CYCLES  processes that the kill test goes through; 12, and 200 for a night
//	TIDEMARK_CHAOS_SEED    the seed of a run that failed
//	TIDEMARK_REQUIRE       a list with commas of what must not be skipped: tmpfs, kcat, python, or all
//	TIDEMARK_PYTHON        an interpreter that has kafka-python and python-snappy; python3
package chaos
