// Package model is the truth that the processor is tested against; nothing but tests imports it.
//
// Model says what must come out of a sequence of raw events. It is written from the rules alone, with maps, encoding/json and
// deletions that happen at once, and shares no code with change detection, hot entries, bitmaps or sweeps. Ledger reads what did come
// out - the valid records of the changes topic - and checks every rule that can be seen in the log itself. Compare holds the two
// against each other.
package model
