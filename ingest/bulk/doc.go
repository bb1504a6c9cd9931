// Package bulk reads the files of a bulk load: one full copy of a collection, as a JSON array of objects or as NDJSON (one
// object a line), plain or gzip. It hands out each object's own bytes, never decoded and encoded again, with the record id
// found in one member of the object.
//
// # Invariants
//
//   - Bytes in, bytes out. A payload is a sub-slice of the (decompressed) input: no member is reordered, no number is
//     rewritten, no escape is resolved.
//   - All or nothing. Every byte is checked against RFC 8259, UTF-8 included, and the first fault ends the reading: a file
//     that is cut off, damaged or followed by something else never looks like a short, complete one. A full refresh deletes
//     what a file leaves out, so half a file taken for a whole one would delete records.
//   - Memory is bounded by the options, not by the input: one record and one block while reading, and 16 bytes of hash a
//     record (with the table around them some 40) while looking for ids that occur twice.
//   - The format is told from the content. A name says nothing, and standard input has none.
//
// # Two passes
//
// When an id occurs twice in a file the last occurrence wins. Which one is the last is known only at the end, so a load reads
// its input twice: [Scan] finds the winners (and every fault, before anything has been sent), [Plan.Replay] hands them out.
// [OpenInput] makes any input readable twice; what cannot be rewound is spooled to a temporary file of bounded size.
//
// # Neighbours
//
// The command line opens the inputs and sends what comes out; the producer in package ingest turns it into raw events. This
// package knows neither, and imports nothing else of this module.
package bulk
