// Package cli is the command line: it parses, calls the packages that do the work, and shows what came of it.
//
// # Invariants
//
//   - What a script reads is on standard output and nothing else is: with --json one JSON value a line, in a shape that only gains
//     members. Messages, progress bars and errors go to standard error.
//   - Every command ends with one of the codes of exitcodes.go, and every error says what to do about it if anybody knows.
//   - Payloads are shown only by commands that are asked for them; secrets are read from files and the environment, never from
//     arguments, and are never shown.
//   - A flag that is not given takes its value from the environment variable TIDEMARK_FLAG_NAME, then its default.
//   - Nothing here is global: a test runs any number of command lines in one process.
//
// # Files
//
//	main.go, root.go, flags.go      the frame: signals, flags, the environment, errors and exit codes
//	up.go, banner.go, demo.go       the whole product in this process
//	load.go, loader.go, progress.go files to runs
//	changes.go                      reading the changes topic, for tail, runs, held and the demo
//	tail.go, runs.go, held.go       what became of them
//	records.go                      records back over HTTP
//	stats.go, history.go            what the projections know of streams, and of a record
//	observability.go                asking them over HTTP
//	projections.go                  ClickHouse for up: its flags, and saying when it can be asked
//	clickhouse.go, maintain.go      SQL, and looking after the tables
//	topics.go, doctor.go            the state of topics and of the machine
//
// # Neighbours
//
// deploy/stack runs the product; ingest writes, projections/follow reads, ingest/bulk reads files, deploy/demo has sample data.
package cli
