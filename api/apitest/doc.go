// Package apitest is for tests: Memory, a View in memory that is simple enough to be right by reading it, and Pagination, the
// suite that every View must pass behind the real HTTP handler. Memory passes it in package api; whoever implements api.View runs
// the same suite on the real thing.
package apitest
