// Package detect tells whether and where a record changed. It is pure: no I/O, no clock, no state that shows.
//
// It works in two steps, cheapest first. RawHash compares the bytes of a payload, which is all that most saves need.
// Only when the bytes differ, Scan reads the JSON: it validates, and hashes in one pass the payload as a whole (Hash),
// the set of its top-level names (Shape), and each top-level value (Fields). Changed compares two lists of the latter
// and names the members that differ. Merge applies a partial update to a stored payload.
//
// # Canonical text
//
// Hash is XXH3-128 (seed 0, big-endian) of the canonical text of the payload, and each of Fields is the low 24 bits of
// XXH3-64 of the canonical text of a value, with 1 in place of 0. So anybody with a JSON library and an xxHash library
// can compute both. Canonical text, version 1 (AlgoXXH3Canon1), is that of RFC 8785 with these differences:
//
//   - what Options.Ignore names is removed first, as a member or element that is not there;
//   - of members with one name in one object the last one stays, wherever it stands;
//   - numbers keep their literal text: 1, 1.0 and 1e0 are three values, and no digit is lost;
//   - a lone surrogate stays an escape, \udxxx in lower case (RFC 8785 refuses the payload; data cut in the middle of
//     an emoji exists, and a record is not to be lost for it).
//
// The rest is RFC 8785: no white space, members in the order of the UTF-16 code units of their names, strings with
// the fewest and shortest escapes.
//
// Two payloads have the same canonical text only if they mean the same: the text is itself JSON and can be read back,
// and reading it back gives every name, value, order and nesting that was put in; quotes and brackets keep 1 from "1",
// null from "null", {} from [] and "". Two payloads with one Hash are therefore either equal in meaning or a collision
// of XXH3-128, which is not to be expected by chance (2^-128 for a pair) but can be constructed: the hash defends
// against mistakes, not against an adversary who writes both payloads. Fields and Shape are hints for people; only
// Hash decides.
//
// # What is refused
//
// Everything that RFC 8259 does not allow; a top level that is not an object; invalid UTF-8; nesting deeper than
// MaxDepth; more than MaxPayload bytes; and a lone surrogate in a member name, because names are passed on as UTF-8.
// Duplicate names are not refused: the last one counts, as in all common parsers.
//
// # Cost
//
// A Scan is linear in the size of the payload, but for nested objects whose members are out of order: their text moves
// once for each level around it. Memory is about five times the payload and stays with the Detector. In the steady
// state nothing is allocated: payloads of no more than the size and the names seen before.
//
// The package is used by processor, which compares hashes with the stored ones and writes change events.
package detect
