// Package segment stores the payloads of one partition: every committed version of every record, metadata and payload, found by
// (stream id, csn). It is append-only, checksummed and clustered by stream, so that a page of one stream decodes few blocks
// however many streams share the partition.
//
// # Invariants
//
//   - S1 The log is the write-ahead log. Nothing is fsynced when records are appended. After a crash the store reopens as exactly the
//     records of csn <= [Store.Applied], for some earlier value of it, and the caller feeds it again from there. Records at or below
//     [Store.Appended] are ignored, so feeding too much is harmless.
//   - S2 An Append call is never torn: a frame holds whole calls, and a frame is on disk whole or not at all.
//   - S3 A segment file is created only after its predecessor is complete and fsynced. Hence only the last file can be torn by a crash;
//     damage in any other is corruption and is reported as [ErrCorrupt], never repaired in silence.
//   - S4 No byte of a record is served unchecked: frame headers carry a CRC32C that covers the CRC32C of each of their blocks, and a
//     block is verified each time it is read from the file.
//   - S5 Bytes behind the last whole frame are zeroed and synced before the first new append, so that a stale frame can't come back to life.
//   - S6 Memory is bounded: one tail that fills (BufferBytes and one Append call), one tail in flight, the index (12 bytes a block and 16
//     bytes a run, about half a byte a record of 800 bytes), and the shared Cache. A store keeps one open file a segment.
//
// # Files
//
// A segment is "<first csn, 20 digits>.seg". All integers are little-endian.
//
//	segment = header(40) frame* [zeros] [footer]
//	header  = magic(8) version u32, reserved u32, base u64, floor u64, sum u32, reserved u32
//	frame   = len u32, sum u32, first u64, through u64, newest ts i64, records u32, blocks u32, runs u32, reserved u32,
//	          blocks * (stored bytes u32, sum u32), runs * (sid u32, block u32, first csn u64), block*
//	block   = codec u8 (0 stored, 1 snappy), data
//	record  = size u32, sid u32, csn u64, ts i64, first seen i64, run u64, rev u32, id bytes u16, op u8, flags u8, hash(16), id, payload
//	footer  = the headers of all frames, footer bytes u32, frames u32, data end u64, sum u32, reserved u32, magic(8)
//
// base is the csn that the previous segment ended with. A frame covers the csn range [first, through], and first is always one above
// what came before. Inside a frame records are sorted by (sid, csn) and cut into blocks; a run is the part of one stream inside one
// block. len counts the bytes behind sum; a frame's sum covers len and the header. Snappy is the raw block format of
// github.com/google/snappy, CRC32C is the Castagnoli polynomial of RFC 3720.
//
// The footer is written when a segment is full, and by Close. A file without a valid footer is scanned frame by frame. The next append after
// a clean Close overwrites the footer, which makes it invalid by construction.
//
// # Concurrency
//
// Lock order: dropMu, writeMu, mu. dropMu serialises DropBelow. writeMu serialises everything that grows the store. mu is a read-write lock
// held for pointer swaps alone: no file access, no compression and no waiting happens under it, so readers never wait for a flush. What
// readers see (frame lists, tail entries) only ever grows behind the length that they copied. Tails, segment files and decoded
// blocks are counted references: a reader that started keeps what it needs, also when it is dropped or evicted meanwhile.
//
// # Neighbours
//
// The follower of processor appends and flushes; the read path gets pages; retention asks Oldest, moves what is still live to its own table,
// and calls DropBelow. The owner of the partition's directory holds its lock: two Stores must not share one.
package segment
