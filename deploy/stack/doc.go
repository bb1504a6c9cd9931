// Package stack composes the product: it starts the parts in order, tells them of each other, and stops them in the reverse order.
// It is the only package that knows all of them.
//
//	lock the data directory -> listen for HTTP -> embedded broker, or connect to a cluster -> topics -> processor -> serve
//	then, in the background: ClickHouse, embedded or a server -> projector (projections.go)
//
// # Invariants
//
//   - One process a data directory, whichever broker it uses: a kernel lock says so (lock.go).
//   - A data directory belongs to one cluster and one topic prefix for good (installation.go): local state of one log never meets
//     another.
//   - The HTTP port is taken before anything is touched, and answers as soon as broker and topics are there: /livez at once, /readyz
//     with what partitions wait for, records of a partition when it has been read.
//   - Whatever has been started is stopped, in reverse, within one budget, Config.ShutdownTimeout. What does not stop in time is left
//     to the end of the process: everything here survives a kill.
//   - Nothing below keeps going when a part cannot: the first failure stops the whole, and Run returns it. But for the
//     projections: they wait for what is missing, start again by themselves, and stop nothing.
//
// # Data directory
//
//	lock            held by the running process, whose id is in it
//	tidemark.json   the cluster and prefix that the directory belongs to, and the lineage of its cursors
//	kafka/          the embedded broker's log (deploy/devkafka)
//	state/          local state of the processor; may be deleted while stopped, it is built again from the log
//	clickhouse/     the embedded ClickHouse (deploy/devclickhouse); the same goes for it
//	fingerprint.secret
//
// # Neighbours
//
// deploy/cli runs a Stack for `up`, and tests run it in their own process. deploy/kafka readies the topics; api reads the processor
// through view.go, and the projections through observability.go. maintain.go is for commands that work on the tables of a stack that is up.
package stack
