// Package bridge serves ClickHouse's HTTP interface from an engine in its own process, so that clients of a ClickHouse server work
// on it unchanged: clickhouse-go/v2 and what is built on it, curl, and others that speak HTTP.
//
// What it is faithful to is in the documentation of ClickHouse ("HTTP Interface") and in clickhouse-go's conn_http*.go. Results are
// the engine's own bytes: nothing is transcoded but for compression.
//
// # Invariants
//
//   - B1 The data of an INSERT never passes through the engine's parser of statements, which would cut it at a blank line and run
//     the rest (insert in query.go).
//   - B2 A body that is cut short stores nothing of the block it was in: its insert is dropped, not ended.
//   - B3 Nothing of a request outlives it, unless it names a session: each has a connection of its own (session.go).
//   - B4 A request's setting is one that the engine has a name for, and its value is always a literal (params.go).
//   - B5 A statement that would end the engine, or have it write files as a client, is not shown to it (statement.go).
//   - B6 A login that only reads runs under readonly=1, set after all else, and does not reach file() or DESCRIBE of a table
//     function, which readonly=1 lets pass.
//   - B7 An answer that fails after its status has gone out says so behind the result, and its body is not ended.
//   - B8 A statement whose client has gone is killed.
//   - B9 Statements, waiters, connections, sessions, query text, forms and pauses are bounded.
//
// # What differs from a server
//
// query_id is not passed on to the engine. Settings of one's own (SQL_x) are unknown. DateTime with a time zone loses it, as at every
// server before revision 54337; DateTime64 keeps it. A read-only login has no sessions. There is one database engine for all
// logins, and no CREATE USER.
//
// # Neighbours
//
// Stands on deploy/devclickhouse/chdb. deploy/devclickhouse runs it in a process of its own, as an engine that fails takes its
// process along.
package bridge
