// Package errcode registers every error code that a user can meet: in an HTTP answer, in a dead letter, in a held run, on the
// command line. A code is stable for ever; its message may improve. Each has an HTTP status and a hint that says what to do.
package errcode
