// Package faultconn breaks connections to a Kafka broker in the ways that matter to exactly-once: for tests, of this module alone.
//
// An Injector wraps the dial function of a client. Its connections look at the API key of each request that is written and, when an
// action is armed for it or the dice say so, do to it what networks and crashing brokers do: lose the request, lose the answer,
// deliver the request much later. It works the same against a real broker and against an in-process one on a virtual network,
// inside a testing/synctest bubble as well.
//
// It counts on one request in each Write, which is how franz-go writes.
package faultconn
