// Package stream names streams. A stream is the ordered sequence of changes of one (environment, integration, connection,
// model, variant). Its key is the Kafka key of every raw event, so that any client's default murmur2 partitioner puts one
// stream into one partition, in order; the key of a change event is the stream key, "/" and the percent-encoded record id.
//
// Invariant: Key and ParseKey are inverse to each other on valid names, and no two names share a key.
package stream
