package warehouse

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tidemark-dev/tidemark/projections/fold"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// logged is one record of a made-up changes topic: a fact, an event, or both nil for a csn of no interest.
type logged struct {
	fact  *fold.Fact
	event *fold.Event
	state *fold.State
}

// madeLog is a changes topic with what should be known of it. Its windows have windowCSNs.
type madeLog struct {
	records []logged // by partition, then csn
	streams []*stream.ID
}

const windowCSNs = 256

// makeLog makes partitions of n csns each, over the days before end. Streams hash to nothing in particular; the first ones change most.
func makeLog(r *rand.Rand, partitions, n int, end time.Time) *madeLog {
	l := &madeLog{}
	nasty := []string{"", " ", "a/b~c", "tab\tnew\nline\n\n", "it's \\", "日本語", "\x00\xff", "plain", "lastSeen", "status"}
	for p := range partitions {
		var streams []*stream.ID
		for i := range 4 {
			id := &stream.ID{
				Environment: []string{"prod", "dev's"}[r.IntN(2)], Integration: []string{"crm", "files"}[r.IntN(2)],
				Connection: fmt.Sprintf("conn-%d", r.IntN(50)), Model: fmt.Sprintf("Model%d-%d", p, i), Variant: []string{"base", "other"}[r.IntN(2)],
			}
			streams = append(streams, id)
		}
		l.streams = append(l.streams, streams...)
		type held struct {
			live uint64
			rev  map[string]uint64
			run  uint64
			open bool
		}
		states := make(map[*stream.ID]*held)
		at := end.Add(-9*24*time.Hour).UnixMilli() - r.Int64N(1e6)
		step := (end.UnixMilli() - at) * 2 / int64(n)
		offset := uint64(r.IntN(100))
		for csn := uint64(1); csn <= uint64(n); csn++ {
			offset += 1 + uint64(r.IntN(2)/1)
			at = min(at+r.Int64N(step), end.UnixMilli())
			s := streams[min(r.IntN(4), r.IntN(4))]
			h := states[s]
			if h == nil {
				h = &held{rev: make(map[string]uint64)}
				states[s] = h
			}
			var rec logged
			if r.IntN(12) == 0 {
				e := &fold.Event{Stream: s, At: at, Term: 1, Partition: uint16(p), CSN: csn, Offset: offset}
				switch k := r.IntN(8); {
				case k == 0:
					e.Stream, e.Op, e.By = &stream.ID{}, event.OpGap, "who"
				case k == 1:
					e.Op, e.Reason, e.Detail, e.RecordID = event.OpDeadLettered, "raw.bad", "what\twas\nwrong", "x"
				case !h.open:
					h.run++
					h.open = true
					e.Op, e.Run, e.Sync, e.Tracks, e.StartedAt, e.Records = event.OpRunStarted, h.run, "sync-a", true, at-500, h.live
				case k == 2:
					h.open = false
					e.Op, e.Run, e.StartedAt, e.Outcome, e.Reason = event.OpRunFailed, h.run, at-9000, string(event.OutcomeInterrupted), "run.expired"
					e.Counts = event.RunCounts{Added: 1, Unchanged: uint64(r.IntN(100))}
				default:
					h.open = false
					e.Op, e.Run, e.Sync, e.StartedAt, e.Outcome = event.OpRunCompleted, h.run, "sync-a", at-9000, string(event.OutcomeCompleted)
					e.Counts = event.RunCounts{Added: 3, Updated: 2, Unchanged: uint64(r.IntN(1e6)), Skipped: 1, NotFound: 2, DeadLettered: 3}
					if r.IntN(3) == 0 {
						e.Outcome, e.ToDelete = string(event.OutcomeSweeping), uint64(1+r.IntN(5))
					}
				}
				rec.event = e
			} else {
				id := nasty[r.IntN(len(nasty))] + fmt.Sprint(r.IntN(20))
				if streams[0] == s { // whose records come up again and again
					id = nasty[r.IntN(len(nasty))]
				}
				f := &fold.Fact{
					Stream: s, RecordID: id, ChangedAt: at, Run: h.run, PayloadBytes: uint32(r.IntN(5000)), Fingerprint: uint64(r.IntN(3)) + 1, Term: 1,
					Partition: uint16(p), CSN: csn, Offset: offset,
				}
				switch {
				case h.rev[id] == 0:
					f.Action = fold.Added
					h.live++
				case r.IntN(10) == 0:
					f.Action = fold.Deleted
					h.live--
				case r.IntN(30) == 0:
					f.Action = fold.Restored
				default:
					f.Action = fold.Updated
					if r.IntN(10) > 0 {
						f.Flags |= fold.FlagFieldsKnown
						f.ChangedFields = []string{"lastSeen", nasty[p%len(nasty)]}[:1+r.IntN(2)]
						if r.IntN(10) == 0 {
							f.ChangedFields = nil
							for range r.IntN(4) {
								if name := nasty[r.IntN(len(nasty))]; !slices.Contains(f.ChangedFields, name) {
									f.ChangedFields = append(f.ChangedFields, name)
								}
							}
						}
						f.ChangedCount = uint16(len(f.ChangedFields))
						if r.IntN(50) == 0 {
							f.Flags |= fold.FlagFieldsTruncated
							f.ChangedCount += 100
						}
					}
				}
				h.rev[id]++
				f.Revision = h.rev[id]
				if f.Action == fold.Deleted {
					h.rev[id] = 0
				}
				if f.Action != fold.Restored {
					rec.state = &fold.State{Stream: s, Partition: uint16(p), CSN: csn, At: at, Live: h.live}
					rec.state.Digest[0], rec.state.Digest[15] = byte(csn), byte(csn>>8)
					f.Flags |= fold.FlagReceived
					f.LagMS = uint32(1) << r.IntN(24)
				}
				rec.fact = f
			}
			l.records = append(l.records, rec)
		}
	}
	return l
}

// partials are the sums of all records whose csn is at most that of their window's cut.
func (l *madeLog) partials(level fold.Level, cut func(partition uint16, window uint64) uint64) []fold.Partial {
	type key struct {
		stream stream.ID
		bucket int64
		window uint64
	}
	sums := make(map[key]*fold.Partial)
	var order []key
	for _, rec := range l.records {
		var s *stream.ID
		var partition uint16
		var csn uint64
		var at int64
		switch f, e := rec.fact, rec.event; {
		case f != nil:
			s, partition, csn, at = f.Stream, f.Partition, f.CSN, f.ChangedAt
		case e != nil && (e.Op == event.OpRunCompleted || e.Op == event.OpRunFailed):
			s, partition, csn, at = e.Stream, e.Partition, e.CSN, e.At
		default:
			continue
		}
		window := max(1, csn/windowCSNs*windowCSNs)
		if csn > cut(partition, window) {
			continue
		}
		width := int64(level.Width() / time.Second)
		k := key{*s, at / 1000 / width * width, window}
		p := sums[k]
		if p == nil {
			p = &fold.Partial{Stream: s, Bucket: k.bucket, Partition: partition, Window: window}
			sums[k] = p
			order = append(order, k)
		}
		p.N++
		p.ToCSN = csn
		if f := rec.fact; f != nil {
			*[]*uint32{&p.Added, &p.Updated, &p.Deleted, &p.Restored}[f.Action-1] += 1
			p.BytesWritten += uint64(f.PayloadBytes)
			p.BytesMax = max(p.BytesMax, f.PayloadBytes)
			p.LastChangeAt = at
			if f.Flags&fold.FlagReceived != 0 {
				p.LagSumMS += uint64(f.LagMS)
				p.LagMaxMS = max(p.LagMaxMS, f.LagMS)
				slot, _ := slices.BinarySearch(fold.LagBounds[:], f.LagMS)
				p.LagHist[slot]++
			}
		} else {
			p.Unchanged += rec.event.Counts.Unchanged
			p.Runs++
			if rec.event.Op == event.OpRunFailed {
				p.RunsFailed++
			}
		}
	}
	out := make([]fold.Partial, 0, len(order))
	for _, k := range order {
		out = append(out, *sums[k])
	}
	return out
}

// batches are all rows of the log at least once, as writers might send them that die, come back, and do not know of each other: in any
// order, any number of times, with sums of shorter prefixes behind those of longer ones.
func (l *madeLog) batches(r *rand.Rand) []fold.Rows {
	var all fold.Rows
	for _, rec := range l.records {
		for range 1 + r.IntN(3)*r.IntN(2) {
			if rec.fact != nil {
				all.Facts = append(all.Facts, *rec.fact)
			}
			if rec.event != nil {
				all.Events = append(all.Events, *rec.event)
			}
			if rec.state != nil {
				all.States = append(all.States, *rec.state)
			}
		}
	}
	whole := func(uint16, uint64) uint64 { return 1 << 62 }
	for i := range all.Partials {
		level := fold.Level(i)
		all.Partials[i] = l.partials(level, whole)
		for range 3 {
			seed := r.Uint64()
			part := func(p uint16, window uint64) uint64 {
				return window + rand.New(rand.NewPCG(seed, uint64(p)<<32+window)).Uint64N(windowCSNs)
			}
			all.Partials[i] = append(all.Partials[i], l.partials(level, part)...)
		}
		r.Shuffle(len(all.Partials[i]), func(a, b int) { p := all.Partials[i]; p[a], p[b] = p[b], p[a] })
	}
	r.Shuffle(len(all.Facts), func(a, b int) { all.Facts[a], all.Facts[b] = all.Facts[b], all.Facts[a] })
	r.Shuffle(len(all.Events), func(a, b int) { all.Events[a], all.Events[b] = all.Events[b], all.Events[a] })
	r.Shuffle(len(all.States), func(a, b int) { all.States[a], all.States[b] = all.States[b], all.States[a] })
	const n = 12
	out := make([]fold.Rows, n)
	for i := range out {
		out[i].Facts = share(all.Facts, i, n)
		out[i].Events = share(all.Events, i, n)
		out[i].States = share(all.States, i, n)
		for level := range all.Partials {
			out[i].Partials[level] = share(all.Partials[level], i, n)
		}
	}
	return out
}

func share[T any](all []T, i, n int) []T { return all[len(all)*i/n : len(all)*(i+1)/n] }
