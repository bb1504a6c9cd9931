// Package bench measures the whole: raw events in, changes out, pages read. Its benchmarks run against a broker in another process, so
// that the CPU time of the processor can be told from that of the broker and the producer.
//
//	go test ./deploy/bench -run '^$' -bench . -benchtime 1x
//
// Each prints its figures with a baseline from the same run. Machines are noisy: compare ratios, and run a few times.
package bench
