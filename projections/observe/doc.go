// Package observe asks the projections: how much there is, what changes, how fresh it is, what a record was.
//
// # Where answers come from
//
// Numbers and histories come from the views of projections/warehouse, whose names begin with v1_, and from nothing else: what can be
// asked here, anybody with an SQL client can ask as well. Each question is one file in folder sql. Each is bounded by LIMIT, by time and
// by the rows that it may read; what is over the bounds is an error, never half an answer. Counts are whole or absent: a list that was
// cut says so in its member more.
//
// Payloads are not in ClickHouse. A fact says where its change event is on the changes topic, so [Reader.Diff] and [Reader.AsOf] read
// exactly that record, by partition and offset, as long as the topic holds it. Facts come from valid records only (rule V), so the one
// at that offset is valid if it is the one that the fact is about: its csn and its key are compared. If it is gone, the error is
// errcode.PayloadGone; the names of the fields that changed are told all the same.
//
// # What a record was
//
// A record is born by ADDED, and ends by DELETED, or with its whole stream by a hard CLEARED or by PURGED, which write no DELETED. So
// the history of a record is that of its facts and of these events of its stream. RESTORED changes nothing, but carries the payload.
//
// # Invariants
//
//   - O1 Nothing is read but views, and single records of the changes topic that a fact points at.
//   - O2 [Delta] of two objects, applied to the first, gives the second; a delta that leaves something out says so.
//   - O3 Memory is bounded: rows of an answer by Query.Limit, payloads by two at a time, deltas by [Limits].
//
// # Neighbours
//
// api serves this as JSON, deploy/cli prints it. projections/follow reads the single records.
package observe
