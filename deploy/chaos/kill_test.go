package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/processor/model"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

const (
	cyclesDefault = 12
	cyclesShort   = 3
	checkEvery    = 20 // cycles between two audits in a long run
)

// load is a site with producers, consumers, readers and an audit around it.
type load struct {
	s       *site
	feed    *feed
	tapes   *tapes
	audit   *auditor
	readers *readers
	rng     *rand.Rand
}

const (
	// partitionsUnderLoad is odd, so that nothing is right by a mask that should have been a remainder.
	partitionsUnderLoad = 5
	// memoryUnderLoad is the least that there may be: what is in memory is written early.
	memoryUnderLoad = "256MiB"
)

// newLoad starts a process in dir and puts it under load; refusals says that the broker may refuse events for good.
func newLoad(t testing.TB, dir string, rng *rand.Rand, refusals bool) *load {
	t.Helper()
	s := newSite(t, dir, partitionsUnderLoad)
	s.flags = []string{"--memory", memoryUnderLoad}
	l := &load{s: s, rng: rng}
	sources, ids := workloads(rng, partitionsUnderLoad)
	s.start()
	l.tapes = newTapes(s)
	l.tapes.record(s.partitions)
	l.audit = newAuditor(s, l.tapes)
	l.feed = newFeed(s, sources, rng, refusals)
	l.feed.parts[0].burst = 80
	l.feed.run()
	l.readers = newReaders(s, ids, rng)
	l.readers.run()
	return l
}

// workloads are one source for each partition: sweeps of several chunks in the first, with so many changes that local state is written to
// the disk between two kills, part by part; in the others few streams or many, with few records or many.
func workloads(rng *rand.Rand, partitions int32) (sources []source, ids []stream.ID) {
	for p := range partitions {
		streams, records := 1+int(p)%3, []int{30, 8, 300}[p%3]
		var src source = model.NewWorkload(rng.Uint64(), streams, records, p, partitions)
		ids = append(ids, workloadStreams(streams, p, partitions)...)
		if p == 0 {
			h := newHalves(2300, p, partitions)
			ids = append(ids, h.id)
			src = &mixed{rand.New(rand.NewPCG(rng.Uint64(), 4)), h, src, 8}
		}
		sources = append(sources, src)
	}
	return sources, ids
}

// workloadStreams are the streams of a model.Workload: of its connections c/0, c/1 and so on, the first n that lie in the partition.
func workloadStreams(n int, partition, partitions int32) (ids []stream.ID) {
	for i := 0; len(ids) < n; i++ {
		id := stream.ID{Environment: "dev", Integration: "sim", Connection: fmt.Sprintf("c/%d", i), Model: "Thing"}
		if stream.Partition(id.Key(), partitions) == partition {
			ids = append(ids, id)
		}
	}
	return ids
}

// check audits everything while the feed is paused.
func (l *load) check(t testing.TB, bookmarks int) {
	t.Helper()
	l.s.waitReady()
	resume := l.feed.pauseFeed()
	defer resume()
	l.checkPaused(t, bookmarks)
}

func (l *load) checkPaused(t testing.TB, bookmarks int) {
	t.Helper()
	l.tapes.awaitRead(l.s)
	l.audit.settle()
	l.audit.checkRaw(l.feed)
	l.readers.check(l.audit, bookmarks)
}

// finish audits for the last time, everything read anew by clients that saw nothing before.
func (l *load) finish(t testing.TB) {
	t.Helper()
	l.s.waitReady()
	l.feed.halt()
	for _, id := range l.feed.last(l.s.partitions) {
		l.readers.add(id)
	}
	l.checkPaused(t, 60)
	again := l.tapes.reread(l.s)
	l.tapes.checkPrefix(again)
	fresh := newAuditor(l.s, again)
	fresh.settle()
	for p, a := range fresh.parts {
		old := l.audit.parts[p]
		if len(old.versions) != len(a.versions) || a.ledger.RawNext() != old.ledger.RawNext() {
			t.Errorf("partition %d: read again from the start it has %d valid records up to raw offset %d, had %d up to %d", p,
				len(a.versions), a.ledger.RawNext(), len(old.versions), old.ledger.RawNext())
		}
		if want := l.tapes.end(l.s.names.Raw, int32(p)); a.ledger.RawNext() != want {
			t.Errorf("partition %d: the changes reach up to raw offset %d of %d", p, a.ledger.RawNext(), want)
		}
	}
	t.Logf("%s; %s", l.audit, l.readers.summary())
}

// TestKill_NothingIsLostDoubledOrWrong kills the process again and again under load: while it starts, while it takes its partitions over,
// while it sweeps, while it answers; it stops it in order now and then, so that what an orderly stop leaves is there to mislead the
// recovery after the next kill; and it freezes it.
func TestKill_NothingIsLostDoubledOrWrong(t *testing.T) {
	rng := newRand(t)
	cycles := cyclesDefault
	if testing.Short() {
		cycles = cyclesShort
	}
	cycles = setting(t, "TIDEMARK_CHAOS_CYCLES", cycles)
	l := newLoad(t, t.TempDir(), rng, false)
	s := l.s
	kinds := map[string]int{}
	for cycle := range cycles {
		switch p := rng.IntN(20); {
		case p < 5: // in the middle of a start
			kinds["in a start"]++
			s.kill()
			lines := s.log.count()
			s.spawn()
			s.log.await(lines+1+rng.IntN(6), 10*time.Second)
			pause(t, between(rng, 0, 40*time.Millisecond))
		case p < 9: // just after a takeover
			kinds["after a takeover"]++
			s.waitReady()
			pause(t, between(rng, 0, 60*time.Millisecond))
		default:
			kinds["under load"]++
			s.waitReady()
			pause(t, between(rng, 200*time.Millisecond, 1600*time.Millisecond))
		}
		if cycle%8 == 5 {
			kinds["frozen"]++
			s.freeze(between(rng, time.Second, 3*time.Second))
			pause(t, between(rng, 0, 300*time.Millisecond))
		}
		if cycle%8 == 7 {
			kinds["stopped in order"]++
			s.waitReady()
			s.stop()
		} else {
			s.kill()
		}
		s.spawn()
		if t.Failed() {
			t.FailNow()
		}
		if cycle%checkEvery == checkEvery-1 || cycle == cycles/2 {
			l.check(t, 40)
			t.Logf("cycle %d: %s", cycle, l.audit)
		}
	}
	l.finish(t)
	t.Logf("%d cycles: %v", cycles, kinds)

	// Local state is nothing but what the log says: without it the same comes out.
	s.stop()
	must(t, os.RemoveAll(filepath.Join(s.dir, "state")))
	s.start()
	l.readers.check(l.audit, 30)
}

// TestKill_PartsOfTheStateAreOnTheDisk writes so much that rows and payloads reach the disk before the kill, each up to a point of its
// own, while other parts of the state exist in memory alone. The next process must give each part what it lacks.
func TestKill_PartsOfTheStateAreOnTheDisk(t *testing.T) {
	const records, rounds = 12_000, 3
	s := newSite(t, t.TempDir(), 8) // the more partitions, the smaller the buffers of each
	s.flags = []string{"--memory", memoryUnderLoad}
	rng := newRand(t)
	id := stream.ID{Environment: "dev", Integration: "crm", Connection: "acme", Model: "Contact"}
	home := stream.Partition(id.Key(), s.partitions)
	for round := range rounds {
		s.start()
		var list []model.RawEvent
		for i := range records {
			rec := fmt.Sprintf("r%d", rng.IntN(2*records))
			list = append(list, saveEvent(id, rec, fmt.Sprintf(`{"id":%q,"round":%d,"i":%d,"text":"%0200d"}`, rec, round, i, i)))
		}
		s.write(list)
		decided := fmt.Sprintf(`tidemark_processor_raw_events_total{outcome="decided",partition="%d"}`, home)
		eventually(t, startWait, func() string {
			if n := s.metric(decided); len(n) < len(fmt.Sprint(records)) || n < fmt.Sprint(records) {
				return n + " events are decided"
			}
			rows, payloads := s.files(fmt.Sprintf("state/p%d/meta/*.sst", home)), s.files(fmt.Sprintf("state/p%d/seg/*.seg", home))
			if round == rounds-1 && (len(rows) == 0 || len(payloads) == 0) {
				return fmt.Sprintf("%d files of rows and %d of payloads are on the disk", len(rows), len(payloads))
			}
			return ""
		})
		s.kill()
	}
	s.start()
	s.audited([]stream.ID{id})
	s.stop()
	s.start()
	s.audited([]stream.ID{id})
}
