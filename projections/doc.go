// Package projections turns change events into something to be asked: counts, runs, histories, freshness. Nothing in the pipeline waits for
// it, and all that it holds can be made again out of the log.
//
//	follow      the changes topic as whole valid groups, with positions that can be stored and resumed exactly
//	fold        groups into rows: facts, sums by aligned windows of csns, control events. A pure function of the log
//	project     the projector: reads, folds, writes, stores its position, survives; audits, erasures, rebuilds
//	warehouse   tables, views and inserts of ClickHouse: the only place that knows their SQL
//	observe     questions to the views, and diffs out of the log, for the API and the command line
//
// The way of a change:
//
//	changes topic -> follow -> fold -> project -> warehouse: changes_gN, changes_1m/1h/1d_gN, events_gN, stream_state_gN
//	                                                  |
//	                                   views v1_* <---+---> SQL clients, Grafana (deploy/grafana), observe -> api, tidemark stats
//
// Facts have the identity of their change, partition and csn; sums are versioned by how many records they hold. So every row may be written
// any number of times, in any order, by anybody, and the tables still say what the log says.
package projections
