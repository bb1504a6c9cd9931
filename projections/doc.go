// Package projections turns change events into something to be read. So far it holds the reader that every projection stands on:
//
//	follow    the changes topic as whole valid groups, with positions that can be stored and resumed exactly
//
// The ClickHouse projections come next and will live here.
package projections
