// Package schemas is the contract between the parts of Tidemark and with everybody outside: names, keys, wire formats,
// cursors, topics and error codes. It is pure data: no I/O, no goroutines, and nothing but the standard library, so that any
// of our packages, and any client, may import it.
//
//	stream      who a record belongs to, and the Kafka keys and partition that follow from it
//	event       what travels on the raw, changes, state and dead-letter topics
//	rulev       which records of the changes topic are valid (rule V)
//	cursor      the position a reader stores
//	topic       the topics, their partitions and settings
//	errcode     every error code a user can meet, with HTTP status and hint
//	jsonschema  JSON Schemas of both envelopes and of raw events
//
// Formats are append-only: the golden files under testdata are never edited, only added to.
package schemas
