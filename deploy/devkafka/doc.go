// Package devkafka is the embedded Kafka broker: kfake with a data directory, made safe to keep real data in.
//
// kfake speaks the protocol well and is fast, but it is written for tests. It has no lock on its directory, it crashes on
// an unknown request, its retention can reset offsets to zero, its compaction can lose a partition, and on a full disk it
// acknowledges records that it did not store. This package closes each of these from the outside, with kfake unmodified,
// so that one process on one machine can be trusted with a log.
//
// # Invariants
//
//   - K1 One process per directory. A kernel lock says so, and goes with the process however it ends (dirlock.go).
//   - K2 An acknowledged record survives a killed process, at the offset that was acknowledged. A power cut may take the last
//     seconds unless [Config.SyncWrites] is set.
//   - K3 A record that the disk did not take is never acknowledged: producing stops at a reserve of free space, and stops for
//     good, until a restart, after any append that went wrong (admission.go, health.go).
//   - K4 A partition that has held records is never empty again: a trim leaves its last record, so its offsets never start
//     over. A trim that returned holds across any restart (trim.go).
//   - K5 Nothing but a trim removes records: no compaction, no retention, whatever a client asks for (policy.go).
//   - K6 A producer that outlives a killed broker is still deduplicated: its last sequence numbers are read back from the log
//     (windows.go).
//   - K7 No frame reaches kfake that is too short, too long or of an unknown kind (guard.go).
//   - K8 The log is checked before it is opened. Damage that is not a torn last write refuses to start, naming file and
//     position; it is never cut off in silence (verify.go).
//   - K9 After an unclean stop every transaction that was open gets the abort marker that kfake leaves out (repair.go).
//
// # What it is not
//
// One machine, no replication, loopback unless told otherwise, no authentication. A kill in the middle of a transaction's
// commit may commit it in some partitions and not in others; the input of such a commit is read again. Programs that
// write transactions under a name that they keep should use a real cluster, or one name for each start of the process. The
// process reads the whole log at each start, about a second for a gigabyte, and needs memory of about the size of the log
// when the last stop was unclean; above [warnBytes] the broker says so. It runs where the kernel has flock: not on Windows.
//
// # Directory
//
//	lock          held by the running process, whose id is in it
//	broker.json   format version, the port last used, trims
//	clean         there when the last stop was orderly
//	log/          kfake's own files
//	orphans/      partitions that no topic claims, set aside
//
// # Concurrency
//
// A [Broker] is safe for concurrent use. kfake runs every request on one goroutine; what this package hangs into that
// goroutine (admission, policy) takes no lock and makes a system call at most every [measureEvery].
//
// # Neighbours
//
// A leaf: it imports nothing of ours. deploy/stack starts it; tests anywhere may. Everything else talks to it as to any Kafka.
package devkafka
