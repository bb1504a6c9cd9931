// Package event is the wire format of everything on our topics.
//
//	raw       one Kafka record per event that a sync function emits; the meaning is in headers, the value is the payload (raw.go)
//	changes   one Kafka record per change or control record; a JSON envelope around the untouched payload, and three headers:
//	          op, csn and m (change.go, meta.go, control.go)
//	dlq       a raw event that could not be applied, with its reason in headers (deadletter.go)
//	state     rows of the local state for what has left the changes topic: their format is that of package processor/store
//
// Payload bytes are spliced into the envelope and never re-encoded: a reader takes them out with the offset and length in m.
// Decoders accept what the current version and the one before it wrote, ignore unknown headers and unknown JSON members, and
// never panic on any input; each has a fuzz test.
package event
