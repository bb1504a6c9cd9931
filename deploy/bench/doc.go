// Package bench measures the whole: raw events in, changes out, pages read. RESULTS.md has what it gave, and where.
//
//	go test ./deploy/bench -run '^$' -bench . -benchtime 1x -count 3 -timeout 30m
//
// ends with one table: every measure with what it must reach, the median of the runs, and a baseline from the same runs, which is the
// part of the work that nobody can avoid, or the obvious way to do it. Machines are noisy: where a figure says "per CPU-second", it is
// from the CPU time of one process (user and system, every thread, garbage collection and compaction included), which a busy machine
// stretches far less than the clock; the rest is by the clock, and means something only on a machine that does nothing else.
//
// Benchmarks of one part run a broker in a process of its own, and so does what reads pages over HTTP, so that CPU times can be told
// apart. Those of the whole run a Stack, as the command "up" does.
//
//	TIDEMARK_BENCH_RECORDS   records of most benchmarks; default 200,000
//	TIDEMARK_BENCH_LARGE     1: also full runs of 1 and 10 million records; a quarter of an hour and 25 GB of disk
//	TIDEMARK_BENCH_TABLE     a file that the table is written to as well
//	TIDEMARK_BENCH_PROFILES  a folder for CPU and allocation profiles, one for each measured phase
package bench
