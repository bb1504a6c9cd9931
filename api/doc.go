// Package api is the HTTP side of Tidemark: records read back by cursor, and what an operator asks a server (alive, ready,
// metrics). The root routes speak the reference product's dialect, so that its clients work unmodified; everything under /v1 is
// ours.
//
// It reads through View, which it declares and the processor implements; it never sees Kafka or the state store. A page is read
// from one consistent state, rendered into one bounded buffer, and only then written: so a slow client never holds the store's
// snapshot, and an error met half-way is still an honest status code.
//
// Invariants:
//
//   - A client that follows next_cursor until it is null, and applies what it gets, holds the latest version of every record,
//     whatever changed meanwhile (I8). A page is never cut without a cursor that goes on exactly where it was cut.
//   - Payload bytes are copied, never re-encoded: numbers, key order and escapes leave as they came (splice.go).
//   - Malformed input of any kind is a 400 with a registered code and a hint; a cursor that cannot be honoured is never a 500
//     and never a silent skip.
//   - Everything is bounded: records, bytes and examined rows of a page, pages in memory at once, headers, bodies, time.
//
// Neighbours: schemas/stream (names), schemas/cursor (positions), schemas/errcode (codes), schemas/event (ops). apitest holds a
// View in memory and the pagination suite that every View must pass. README.md lists routes, parameters and codes.
package api
