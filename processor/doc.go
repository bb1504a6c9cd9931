// Package processor turns raw record events into change events, exactly once, and keeps a view of them that can be read by cursor.
//
// One partition of the raw topic has one writer at a time. It reads raw events, decides (package decide), and appends groups of change
// records to the same partition of the changes topic. The output log is the commit log: the end of each group says how far raw had
// been read. The node's own follower reads the log back, keeps what rule V (schemas/rulev) finds valid, and applies it to the local
// state (package store). Only what has been read back counts as committed; an acknowledged produce does not.
//
//	raw -> [fetch] -> [decide] -> [commit] -> changes -> [follow] -> store -> pages, look-ups
//	                      ^------ applied groups -----------+
//
// Taking a partition over is also the only way to recover: after any error the writer drops everything that it had in flight, fences,
// writes a TERM, reads it back, and goes on from what the log says.
//
// # Invariants
//
//	I1  the valid groups are a function of the log prefix only; two followers of the same prefix hold identical state
//	I2  csns of valid records are consecutive
//	I3  groups cover consecutive raw ranges: raw_next never falls
//	I4  ADDED iff there is no live version, UPDATED iff live and different, DELETED iff live; prev_csn names the one before
//	I5  the valid groups equal the reference model run on the raw prefix [0, raw_next)
//	I6  after TERM t no record of a lower term is ever valid
//	I7  R rows and version bits are in bijection; counters and digests equal the rows
//	I8  a client that pages until empty and applies what it gets holds exactly the latest version of every record
//	I9  a record deleted by a run was not saved in the run's window, no guard was against it, and all its events had arrived
//	I10 kill -9 of anything at any point leaves the valid prefix as it was
//	I11 a payload is served iff it lies above the prune floors; hash and metadata outlive it
//	I12 local state at applied csn c equals the state computed from scratch from the log up to c
//
// # Files
//
//	processor.go  the set of partitions; Run, Ready
//	view.go       what the API and the command line read
//	partition.go  life of one partition: state, follower, terms
//	follower.go   reading the log back
//	takeover.go   fence, TERM, replay
//	owner.go      the loop of the writer
//	encode.go     a group as one record batch
//	log.go        the interface to Kafka, and its real implementation (package kafka)
//
// # Goroutines of a partition
//
// One follows. While the partition is owned, one fetches raw batches, one decides, and one commits; they are joined before the next
// term begins. The store is written by the follower alone. Nothing is locked while waiting for the network.
package processor
