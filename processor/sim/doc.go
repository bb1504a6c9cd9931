// Package sim is the deterministic simulation of the processor; it holds tests only.
//
// One synctest bubble holds an in-process broker on a virtual network, franz-go, the processor with Pebble and the segments on a crashable
// memory file system, a producer of raw events, and a hand that breaks things: it kills nodes, starts others over the same partition
// without waiting, cuts connections, loses requests and answers, and delivers requests late. Time is virtual, so that hours take
// milliseconds. At the end the log is read from scratch through rule V and held against the reference model, and the state of every
// node against the state that an empty disk gets from the same log.
//
// A seed names a run. Goroutines are scheduled by the runtime, so a seed repeats the plan, not the exact interleaving.
package sim
