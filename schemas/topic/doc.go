// Package topic is the manifest of our topics: names, partition counts and settings. Raw, changes, state and dlq of one
// generation have the same partition count, and partition p of one belongs to partition p of the others. The count is fixed when
// the topics are made: changing it would move streams and break cursors.
package topic
