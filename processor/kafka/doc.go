// Package kafka is the log over a real Kafka protocol: whole record batches in, whole record batches out.
//
// It speaks with raw requests over clients of franz-go, which give dialing, TLS, SASL, version negotiation and broker discovery. It
// does not use their producer and consumer, for three reasons: a group of change records must be exactly one batch in exactly one
// produce request; nothing may be sent twice behind the back of the processor, whose only recovery is a takeover; and followers want
// the bytes of a batch, to recognise their own.
//
// Log is the cluster: partition counts, bounds, trimming. Reader follows one partition from an offset, read_committed, and survives
// whatever passes: brokers that restart, leaders that move, connections that break. Writer appends to one partition number of the
// output topics as one idempotent producer, and survives nothing: its first error is its last.
//
// Invariants.
//
//   - A Writer sends each batch at most once. An error of Append leaves open whether the batch is in the log (only a follower that
//     reads the log back can tell), but no later batch of this Writer follows it.
//   - A Reader returns every committed data batch from its position on, in order, once, and never a batch of an aborted transaction.
//   - Topics are known by the id that the cluster gave them, if it gives ids: a topic that was deleted or made again is an error,
//     ErrTopicID, never an empty log or another one.
//   - Every wait ends with its context; every request has a bound, Config.RequestTimeout. No lock is held while waiting, no goroutine
//     of this package outlives the call that started it, and time is only asked of package time, so that all of it runs in a
//     testing/synctest bubble.
//
// Locks: Log.mu guards the ids of topics and the set of open clients; nothing is called under it.
//
// Neighbours: processor/batch is the codec, schemas/topic has the names. faultconn, below, breaks connections in tests.
package kafka
