// Package chtest starts the embedded ClickHouse for a test.
//
// A test that needs it calls [Start]; the TestMain of its package calls devclickhouse.RunChild first of all. Without the library the
// test is skipped, with one line that says what it needs, unless TIDEMARK_REQUIRE names "chdb" or "all": then the library is
// fetched, and the test fails if that cannot be done.
//
// # Invariants
//
//   - An engine that [Start] began is gone when the test ends.
//   - The library is fetched at most once by a process.
//
// # Neighbours
//
// Stands on deploy/devclickhouse, for tests anywhere.
package chtest
