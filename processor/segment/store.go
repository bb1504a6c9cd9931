package segment

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options configure a Store. Only Dir is required.
type Options struct {
	Dir          string
	FS           vfs.FS // nil: vfs.Default
	SegmentBytes int64  // a segment that would grow beyond this is closed; 4 KiB to 2 GiB, default 256 MiB
	BlockBytes   int    // largest uncompressed block of more than one record; 256 B to 1 MiB, default 64 KiB
	BufferBytes  int64  // encoded records in memory before they are flushed; 256 B to 512 MiB, default 4 MiB
	Cache        *Cache // decoded blocks, shared over partitions; nil: none
	Metrics      *Metrics
	Logger       *slog.Logger // nil: nothing is logged
}

func (o *Options) fill() error {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 256 << 20
	}
	if o.BlockBytes == 0 {
		o.BlockBytes = 64 << 10
	}
	if o.BufferBytes == 0 {
		o.BufferBytes = 4 << 20
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	check := func(ok bool, what string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%w: %s", ErrInvalid, what))
		}
	}
	check(o.Dir != "", "Dir is empty")
	check(o.SegmentBytes >= 4<<10 && o.SegmentBytes <= 2<<30, "SegmentBytes outside 4 KiB to 2 GiB")
	check(o.BlockBytes >= 256 && o.BlockBytes <= 1<<20, "BlockBytes outside 256 B to 1 MiB")
	check(o.BufferBytes >= 256 && o.BufferBytes <= 512<<20, "BufferBytes outside 256 B to 512 MiB")
	return errors.Join(errs...)
}

// Store is the payload store of one partition. It is safe for concurrent use; see the package comment for what waits for what.
type Store struct {
	o Options

	dropMu  sync.Mutex
	writeMu sync.Mutex

	job *flushJob // the last flush, until its result was taken; guarded by writeMu

	// The right to write files belongs to the running job, or to the holder of writeMu while none runs. broken is set by it after a failed
	// fsync, and is final.
	broken error

	mu       sync.RWMutex
	closed   bool           // changes under writeMu too
	files    []*segmentFile // by csn, replaced and never changed in place; the last is written to
	tail     *tail          // fills
	flushing *tail          // on its way to the file, or left by a flush that failed; nil when none
	applied  uint64
}

type flushJob struct {
	tail *tail
	done chan struct{}
	err  error // valid once done is closed
}

// Append adds the records of csn up to and including through, in ascending order, with ts as the time of the call.
// Control records take a csn and have no record here; a call of no records just moves through. Records at or below Appended are ignored,
// so a caller may repeat what it isn't sure of. All arguments are copied.
//
// The call is visible to readers when it returns. It writes nothing itself: when BufferBytes are full a flush starts in the background,
// and when that flush is still running by the time the next BufferBytes are full, Append waits for it. The error of a failed flush comes from
// the next Append or Flush, which first tries again; nothing of that call was taken then, and everything appended before stays
// readable. A failed fsync is final: the store has to be opened again.
func (s *Store) Append(recs []Record, through uint64, ts Millis) error {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	if s.closed {
		return ErrClosed
	}
	fresh, size, err := checkCall(recs, through, s.tail.through)
	if err != nil {
		return err
	}
	if through <= s.tail.through {
		return nil
	}
	idle, err := s.settle(s.tail.bytes >= s.o.BufferBytes)
	if err != nil {
		return err
	}
	if s.tail.bytes >= s.o.BufferBytes {
		s.startFlush()
		idle = false
	}
	t := s.tail
	data := t.with(fresh)
	newest := ts
	for i := range fresh {
		newest = max(newest, fresh[i].TS)
	}
	s.mu.Lock()
	if t.empty() || newest > t.newest {
		t.newest = newest
	}
	t.tailData, t.through = data, through
	t.bytes += int64(size)
	s.mu.Unlock()
	s.o.Metrics.records.Add(float64(len(fresh)))
	if idle && t.bytes >= s.o.BufferBytes {
		s.startFlush()
	}
	return nil
}

// Appended returns the highest csn that Append has completed, in memory or on file.
func (s *Store) Appended() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.tail.through
}

// Applied returns the highest csn that was completed and written to the file. It survives the death of the process; after a power cut
// the store may reopen at an older one, unless Sync or Close returned nil.
func (s *Store) Applied() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.applied
}

// Flush writes everything appended before the call. Appends go on meanwhile.
func (s *Store) Flush() error {
	s.writeMu.Lock()
	if s.closed {
		s.writeMu.Unlock()
		return ErrClosed
	}
	if _, err := s.settle(true); err != nil || s.tail.empty() {
		s.writeMu.Unlock()
		return err
	}
	s.startFlush()
	job := s.job
	s.writeMu.Unlock()
	<-job.done
	return job.err
}

// Sync flushes and makes everything appended before the call durable. Appends wait for it.
func (s *Store) Sync() error {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if err := s.drain(); err != nil {
		return err
	}
	if a := s.active(); a != nil && !a.sealed {
		return s.note(a.sync())
	}
	return nil
}

// Close flushes, makes everything durable and writes the index, so that the next Open needs no scan. After an error the store is closed
// all the same; it reopens at an older Applied. Reads under way finish.
func (s *Store) Close() error {
	s.dropMu.Lock()
	defer s.dropMu.Unlock()
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	if s.closed {
		return ErrClosed
	}
	err := s.drain()
	if a := s.active(); err == nil && a != nil {
		err = s.note(a.seal())
	}
	s.mu.Lock()
	s.closed = true
	tails := []*tail{s.tail, s.flushing}
	s.tail, s.flushing = newTail(s.tail.through+1), nil
	s.mu.Unlock()
	for _, f := range s.files {
		f.release()
	}
	for _, t := range tails {
		if t != nil {
			t.release()
		}
	}
	if err != nil {
		return fmt.Errorf("closing segments: %w", err)
	}
	return nil
}

// settle takes the result of the last flush. With wait it waits for the one that runs; idle says that none does any more. A flush that
// failed is tried again, here, so that the caller learns how it stands now. writeMu is held.
func (s *Store) settle(wait bool) (idle bool, err error) {
	if s.job == nil {
		return true, s.broken
	}
	select {
	case <-s.job.done:
	default:
		if !wait {
			return false, nil
		}
		start := time.Now()
		<-s.job.done
		s.o.Metrics.waited.Add(time.Since(start).Seconds())
	}
	if s.job.err != nil {
		retry := &flushJob{tail: s.job.tail, done: make(chan struct{})}
		s.job = retry
		s.flush(retry)
		if retry.err != nil {
			return true, retry.err
		}
	}
	s.job = nil
	return true, s.broken
}

// startFlush hands the tail to a new job. writeMu is held, and no job runs.
func (s *Store) startFlush() {
	job := &flushJob{tail: s.tail, done: make(chan struct{})}
	s.mu.Lock()
	s.flushing, s.tail = s.tail, newTail(s.tail.through+1)
	s.mu.Unlock()
	s.job = job
	go s.flush(job)
}

// drain writes everything appended so far. writeMu is held.
func (s *Store) drain() error {
	if _, err := s.settle(true); err != nil {
		return err
	}
	if !s.tail.empty() {
		s.startFlush()
	}
	_, err := s.settle(true)
	return err
}

func (s *Store) flush(job *flushJob) {
	start := time.Now()
	outcome := "ok"
	if err := s.note(s.writeTail(job.tail)); err != nil {
		outcome = "error"
		job.err = fmt.Errorf("flushing segments: %w", err)
	}
	s.o.Metrics.flushes.WithLabelValues(outcome).Observe(time.Since(start).Seconds())
	close(job.done)
}

// note remembers a failed fsync.
func (s *Store) note(err error) error {
	if errors.Is(err, errSync) {
		s.broken = err
	}
	return err
}

// writeTail writes t as one frame and hands its readers over to the file. On an error nothing changed for them.
func (s *Store) writeTail(t *tail) error {
	if s.broken != nil {
		return s.broken
	}
	e := encoderPool.Get().(*encoder)
	defer e.recycle()
	f := e.encode(t, s.o.BlockBytes)
	a := s.active()
	if a == nil || len(a.frames) > 0 && a.end+int64(f.size) > s.o.SegmentBytes {
		if a != nil {
			if err := a.seal(); err != nil {
				return err
			}
		}
		var err error
		if a, err = s.nextFile(t.first-1, s.Floor()); err != nil {
			return err
		}
	}
	f.place(a.end)
	if err := a.write(e.out); err != nil {
		return err
	}
	s.o.Metrics.written.Add(float64(f.size))
	s.mu.Lock()
	a.add(f)
	s.applied, s.flushing = t.through, nil
	s.mu.Unlock()
	t.release()
	return nil
}

// active returns the segment that is written to, or nil before the first flush. The caller has the right to write files, so the
// list can only lose older ones meanwhile.
func (s *Store) active() *segmentFile {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.files) == 0 {
		return nil
	}
	return s.files[len(s.files)-1]
}

func (s *Store) nextFile(base, floor uint64) (*segmentFile, error) {
	f, err := createFile(s.o.FS, s.o.Dir, base, floor)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.files = append(s.files[:len(s.files):len(s.files)], f)
	s.mu.Unlock()
	return f, nil
}
