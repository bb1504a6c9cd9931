// Package ingest is the Go side of a sync function: it writes raw events (schemas/event) to the raw topic.
//
//	p, err := ingest.NewProducer(ctx, ingest.Config{Seeds: seeds, Names: names})
//	run, err := p.Stream(id).Run(ctx, ingest.RunOptions{Pipeline: true})
//	err = run.Save(ctx, "42", payload)
//	err = run.Complete(ctx, ingest.CompleteOptions{})
//
// A [Producer] is one connection to Kafka, shared by everything in a process. A [Stream] writes events that belong to no run,
// such as those of webhooks. A [Run] is one execution of a sync function; if it tracks deletes, completing it deletes what it
// did not save.
//
// # Invariants
//
//   - G1 A write that returned nil outside a pipeline is in the log, on all in-sync replicas, exactly once.
//   - G2 Events of one goroutine are in the log in the order of its calls, and every event is in the partition of its stream.
//   - G3 The ordinals of a run are dense and rise along the log: 1 to N for its N saves, updates and deletes. They are given out
//     and sent under one lock.
//   - G4 run.completed is written only when every event of the run has been acknowledged, and carries N. A run that lost an
//     event can only fail.
//   - G5 A run that deletes what is missing is not completed while the last write of any record was refused: that record is there
//     at the source, and would be deleted.
//   - G6 A checkpoint is written only when every event before it has been acknowledged: it is never ahead of them.
//   - G7 Memory is bounded by Config.BufferBytes and BufferRecords, whatever the callers do and however long the broker is away.
//   - G8 Every wait ends: with its context, or Config.DeliveryWait after the last sign of progress.
//
// # What an error means
//
// An error of a write is an [errcode.Error] where the user can do something about it. A write that was refused (too large, an
// invalid id, a context that ended while it waited for room) sent nothing. A write whose outcome is unknown - the broker did not
// answer in time, or the context ended while it waited for the answer - stays on its way: the client goes on sending it for
// as long as the producer is open, for taking it back could break the order behind it. Writing the same again is harmless, since
// the processor compares. No payload is ever in an error or a log line.
//
// # How it bounds
//
// Nothing here uses Kafka's own delivery timeouts, retry limits or cancellable produce contexts: an idempotent producer
// may not take back what it has sent once without risking a hole in its sequence numbers. So events are retried for ever, room
// in the buffer is what callers wait for, and it is the waits that are bounded.
//
// # Neighbours
//
// ingest/bulk reads the files of a bulk load; the command line joins the two. The processor reads what this package writes. Any
// Kafka client in any language can take its place.
package ingest
