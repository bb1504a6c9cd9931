// Package decide turns raw events into changes: the sequential heart of a partition's writer. A Decider is given raw events in the
// order of the raw topic and answers with groups of change and control records; it does no I/O but reading committed state. It runs
// ahead of what is committed by the groups in flight, and knows them in an overlay.
//
// What a decision may depend on: the raw events up to here, the committed log, the model options, and the clock (for ts only). Options
// that say what a change is are in the log before they are used (options.go). So after a crash another writer that reads the same log
// goes on with the same result.
//
// Invariants enforced here (numbers as in the processor):
//
//	I3 a group covers a consecutive range of raw events, plus chunks of background deletions
//	I4 ADDED iff there is no live version; UPDATED iff there is one that differs under the options of now; DELETED iff there is one;
//	   prev_csn names the version before, 0 if there never was one
//	I9 a record deleted by a run was not saved in the run's window, no guard was against it, and every ordinal 1..N that the
//	   producer claims has arrived
//
// Files: decider.go is the event loop's side, save.go the records, options.go what a change of the options means, runs.go the runs,
// sweep.go the background deletions, seen.go the checkpoints of what runs have seen, overlay.go the look-up, group.go what comes out.
package decide
