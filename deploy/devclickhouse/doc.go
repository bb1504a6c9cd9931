// Package devclickhouse is the embedded ClickHouse: the real engine, in a supervised process of its own, behind ClickHouse's HTTP
// interface, so that one machine needs no server beside this program.
//
// [Start] finds or fetches the engine's library (package library), starts this very program a second time as the child, and
// keeps it running. In the child [RunChild], which main must call first of all, loads the library (package chdb) and serves
// (package bridge). clickhouse-go/v2 uses it unchanged, through [Server.DSN], as does any client of the HTTP interface.
//
// # Invariants
//
//   - C1 One process per directory: a kernel lock, held by the parent and the child, ends with the later of them.
//   - C2 The child ends with its parent, however that ends: its standard input is a pipe from the parent, and it stops when that
//     ends. It is in a process group of its own, so that a Ctrl-C is the parent's to handle.
//   - C3 The address stays the same across restarts of the child, and of the parent where the port is free: the parent holds the
//     listener and hands it down. A client that connects while the child restarts waits.
//   - C4 A child that ends is started again after 0.1 to 5 seconds, but not when another engine holds the directory.
//   - C5 Passwords are random unless given, kept in a file of mode 0600, and reach the child through the pipe: neither arguments
//     nor environment show them. The child has nothing of the parent's environment.
//   - C6 On Linux with Landlock the child can open nothing but its directory, the library and what the system's own libraries
//     need, and cannot connect to anything. SQL that reads files is confined by that as well.
//   - C7 The engine refuses what would take it over half of [Config.MemoryBytes]; at its peak it has been seen to use one and a
//     half times its limit.
//
// # What it is not
//
// One machine, no replication, no Distributed tables, no query log. An acknowledged insert survives a killed process; but an insert
// that is repeated under the same deduplication token after a kill is, in about one of a hundred kills, taken for a duplicate of
// one that is not there, as with MergeTree tables of any ClickHouse. Let repeats be harmless another way.
//
// # Directory
//
//	lock          held by the running processes
//	state.json    the port and the passwords
//	config.xml    the engine's configuration, written at each start
//	users.xml     settings that every statement starts from
//	data/         the engine's own files
//	backups/      where BACKUP may write and RESTORE may read
//	tmp/          temporary files, emptied at each start of the child
//
// # Neighbours
//
// deploy/stack starts it; tests anywhere may, with package chtest. Everything else talks to it as to any ClickHouse.
package devclickhouse
