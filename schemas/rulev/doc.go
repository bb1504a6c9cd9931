// Package rulev decides which records of the changes topic are valid: rule V. The output log is the commit log. Writers append
// groups of records that end in a commit; a group is valid if it was written in the newest term that the log has seen, with the
// nonce of that term, with consecutive csns, and completely. Everything else is a leftover of a writer that lost its partition, and
// is dropped. So every reader of the same log prefix sees the same valid groups, whatever the brokers acknowledged to whom.
//
// Invariants (numbers as in the processor):
//
//	I1 the valid groups are a function of the log prefix only
//	I2 csns of valid records are consecutive
//	I6 after TERM t no record of a lower term is ever valid
//
// Retention cuts the head of the log. A reader of the rest needs the history of terms to judge the records in front of the first
// TERM (history.go).
//
// A record that fits no case breaks the protocol (a broker lost data, or we have a bug): Read then returns a *HaltError for ever,
// and the partition must stop. It is never skipped.
package rulev
