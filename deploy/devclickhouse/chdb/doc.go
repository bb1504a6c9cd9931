// Package chdb binds the C interface of libchdb, the ClickHouse engine as a shared library, without cgo.
//
// Only what the bridge needs is bound, and only the functions that take lengths: text with a zero byte in it is not cut.
// The declarations follow chdb.h of the library's version 26.7 (github.com/chdb-io/chdb-core, programs/local/chdb.h).
//
// # Invariants
//
//   - The library is opened once for the life of a process, and its engine has one data directory. The engine stops when its
//     last connection is closed.
//   - The engine's signal handlers are off before the first connection, so that those of the Go runtime stay: with the engine's
//     on, a nil dereference in Go hangs the process.
//   - A [Result], [Stream], [Insert] or [Conn] is freed exactly once, by Close, which may be called again. Memory of the library
//     that a Result hands out ends with it.
//
// # Concurrency
//
// A [Conn] runs one statement at a time; calls from several goroutines wait for each other inside the library. Different
// connections run in parallel. A Stream and an Insert hold their connection until they are closed.
//
// # Neighbours
//
// A leaf. deploy/devclickhouse/bridge is its only user. Where the library does not exist (see the build tags), [Open] says so.
package chdb
