// Package batch is the codec of Kafka record batches, version 2 ("magic 2", Kafka 0.11 and up). It is pure: no I/O, no clock.
//
// The processor speaks the log protocol itself because a group of change records must be exactly one batch, and because a follower
// that has the bytes of a batch it wrote can recognise it in a fetch (SameContent) without decompressing it.
//
//	Builder      records -> one batch
//	SetProducer  makes a built batch idempotent or transactional
//	Next         walks the bytes of a fetch response
//	Decode       one batch -> its records
//
// Format: "Record Batch" and "Record" in the message format chapter of the Apache Kafka documentation. Compression is that of the
// Java client: gzip; snappy as one raw block or in the framing of xerial; lz4 frames; zstd frames.
//
// Invariants. Decoders never panic and never allocate more than the bound they are given, whatever the input. Building and decoding
// allocate nothing once their buffers have grown. What is decoded aliases its buffer: copy what outlives it.
//
// Neighbours: schemas/event owns the headers of a record and their meaning; processor/kafka moves batches over the network.
package batch
