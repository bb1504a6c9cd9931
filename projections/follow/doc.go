// Package follow reads the changes topic for those who must not be fooled by leftovers. Writers that have lost a partition leave
// records behind, and so do writers that die inside a group; rule V (schemas/rulev) tells them from the valid ones. A [Follower]
// delivers valid groups, whole and in order, and nothing else.
//
// # Positions
//
// A [Position] is an offset and what the rule knows in front of it. Positions that a Follower gives out resume exactly: the groups
// after it are those that the follower would have delivered next. They are plain data, to be stored with whatever the groups made.
//
// A reader that starts in the middle of the log does not know who owned the partition there. It is told by
//
//   - a position of an earlier follower, or the start of a log that nobody has cut: everything is known;
//   - a cursor: it names a valid record, which says who the writer was. Rule V holds from there on;
//   - an offset, the end, or the start of a log whose head is gone: nothing is known. The reader looks back over
//     Config.LookBack records and takes the newest writer that it finds. See below for what that is worth.
//
// # Starting without knowledge
//
// A writer writes records only after its TERM has won, so any record proves that its term was the newest once, and that every TERM
// of a lower term is late. The reader holds the newest term that was proven so; a record of a newer one, or a newer TERM, takes
// its place, and the reader starts over with it at the first record of a group. Once a TERM and then a record of it have been
// seen, nothing can contradict them any more, and rule V holds without reservation: [Position].Exact. Until then one mistake is
// possible: the reader believes a writer that had lost the partition, because in all of what it looked back over
// neither the TERM nor any record of its successor was found. For that the old writer must have written LookBack records since the
// new one's TERM, and the new one none. To be safe even then, groups are delivered by the rule for plain consumers on top: no
// csn at or below the highest delivered. So a tail may show, in place of changes that the rightful writer has yet to write, those
// that the old one decided for the same csns, from the same raw events by the same code; it shows no csn twice and none out of
// order, and from the first csn on that the old writer did not reach it shows what is valid.
//
// Groups are delivered if they end at or after the offset. One that begins before the records looked back over is left out.
//
// # Invariants
//
//   - W1 What is delivered from an exact position is what rule V finds valid behind it, every group once, in order.
//   - W2 csns rise within a partition, whatever the position was.
//   - W3 The position of a group is behind it: a crash between delivering and storing delivers it again, never skips it.
//   - W4 Memory is bounded: by Config.FetchBytes of compressed records fetched ahead, and Config.GroupBytes a partition of a group
//     whose end has not come.
//   - W5 Records that are gone are not skipped in silence: a position below the log's start or above its end is an error.
//   - W6 A log that breaks the protocol stops the follower with a [rulev.HaltError].
//
// # Neighbours
//
// The command line tails streams with it and waits for runs ([WaitRun]); projections read with it, and read single records whose
// offset they know from valid ones with a [Fetcher]. The processor's own
// follower applies the same rule with its own decoder, for speed.
package follow
