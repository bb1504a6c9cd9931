// Package kafka is how this product reaches a Kafka cluster and keeps its topics: connection options (TLS, SASL), what the cluster
// is, whether the topics are as schemas/topic wants them, and what mends them if not.
//
// # Invariants
//
//   - Secrets come from files or the environment, never from an argument of a command; a [Secret] prints as ***.
//   - Topics are created with the manifest's settings and never deleted. An existing topic is changed by [Admin.Mend] alone, which
//     nobody calls without a person's yes.
//   - The partition count of existing topics is never changed: streams would move and cursors break.
//   - Every request has a bound; a cluster that does not answer is errcode.Unreachable, topics that differ are errcode.TopicDrift.
//
// # Neighbours
//
// deploy/stack readies the topics before the processor starts; deploy/cli shows them. Neither processor nor ingest knows this
// package: they are given the options that [Config.Connection] makes.
package kafka
