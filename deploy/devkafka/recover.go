package devkafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

const (
	// kfakeVersion is the version of every file that kfake keeps, and that this package reads or writes for it.
	kfakeVersion = 1

	kfakeSession  = "session_state.json"
	kfakeSnapshot = "snapshot.json"
)

// setAsideOrphans moves away the directories of partitions that no topic claims. Were such a topic made again, kfake would serve
// the old records at the new ones' offsets.
func (s *survey) setAsideOrphans(dataDir string) error {
	if len(s.orphans) == 0 {
		return nil
	}
	to := filepath.Join(dataDir, orphansDir)
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("setting unclaimed partitions aside: %w", err)
	}
	for _, from := range s.orphans {
		target := filepath.Join(to, filepath.Base(from))
		for n := 1; ; n++ {
			if _, err := os.Lstat(target); errors.Is(err, fs.ErrNotExist) {
				break
			}
			target = filepath.Join(to, filepath.Base(from)+"."+strconv.Itoa(n))
		}
		if err := os.Rename(from, target); err != nil {
			return fmt.Errorf("setting unclaimed partitions aside: %w", err)
		}
	}
	return nil
}

// prepare readies kfake's files after an unclean stop, before kfake opens them.
//
// Everything that kfake writes on an orderly stop only is by then out of date, but kfake would believe it: a snapshot whose
// sizes happen to match brings back a transaction as open that nobody will ever end, a session file brings back its
// members, old sequence numbers make it refuse a producer's next batch. Without them kfake rebuilds from the log; the sequence
// numbers it cannot rebuild are given to it.
func (s *survey) prepare(logDir string) error {
	stale := []string{filepath.Join(logDir, kfakeSession)}
	for _, p := range s.partitions {
		stale = append(stale, filepath.Join(p.dir, kfakeSnapshot))
	}
	for _, path := range stale {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing what an earlier stop left: %w", err)
		}
	}
	for _, p := range s.partitions {
		for i := range p.segments {
			seg := &p.segments[i]
			if seg.index == nil {
				continue
			}
			if err := replaceFile(p.segmentPath(seg, indexSuffix), seg.index); err != nil {
				return fmt.Errorf("rewriting an index: %w", err)
			}
		}
	}
	return s.windows.save(logDir)
}

// indexEntryBytes is one batch in kfake's index, version 1: version, low byte of the CRC-32C of what follows, epoch, timestamp
// (little-endian, 4 and 8 bytes; kfake reads back the epoch only), and a flag byte of which bit 0 says that the batch holds
// records of a transaction.
const indexEntryBytes = 15

// repairedIndex returns what the index of a segment with these batches should hold, or nil if it holds that.
//
// A process that dies between the writes of a batch and of its index entry leaves the index one short, and every later entry
// then stands for the batch before its own: at the next recovery, transactions are taken for other than they are. The
// batches say themselves what they hold.
func repairedIndex(path string, batches []batch) ([]byte, error) {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading an index: %w", err)
	}
	want := make([]byte, 0, len(batches)*indexEntryBytes)
	for i, b := range batches {
		entry := make([]byte, indexEntryBytes)
		if from := i * indexEntryBytes; from+indexEntryBytes <= len(old) {
			copy(entry, old[from:])
		}
		if !validIndexEntry(entry) {
			clear(entry)
		}
		entry[0] = kfakeVersion
		entry[14] &^= 1
		if b.transactionalData() {
			entry[14] |= 1
		}
		entry[1] = byte(crc32.Checksum(entry[2:], castagnoli))
		want = append(want, entry...)
	}
	if bytes.Equal(old, want) {
		return nil, nil
	}
	return want, nil
}

func validIndexEntry(entry []byte) bool {
	return entry[0] == kfakeVersion && entry[1] == byte(crc32.Checksum(entry[2:], castagnoli)) &&
		binary.LittleEndian.Uint32(entry[2:]) < 1<<31
}
