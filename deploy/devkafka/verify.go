package devkafka

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Names inside kfake's directory, and the suffixes of a segment's two files.
const (
	kfakeMeta       = "meta.json"
	kfakeTopics     = "topics.json"
	kfakePartitions = "partitions"
	segmentSuffix   = ".dat"
	indexSuffix     = ".idx"
)

// survey is what a check of the log found.
type survey struct {
	partitions []surveyedPartition
	orphans    []string // directories of partitions that no topic claims
	tornBytes  int64    // at the ends of last segments
	windows    windows
}

type surveyedPartition struct {
	dir      string
	segments []surveyedSegment
}

type surveyedSegment struct {
	base  int64
	index []byte // what the index file should hold, nil if it does
}

// surveyLog reads the whole log and checks that every batch is whole and follows on the one before. kfake reads it all too, but
// it cuts a segment off at the first batch that fails its checksum, whatever comes after, and goes on.
//
// After a clean stop there is no torn write, so every irregularity is damage. ctx ends a long check.
func surveyLog(ctx context.Context, dir string, clean bool) (*survey, error) {
	s := &survey{windows: make(windows)}
	topics, err := readTopics(dir)
	if err != nil {
		return nil, err
	}
	dirs, err := os.ReadDir(filepath.Join(dir, kfakePartitions))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the partitions: %w", err)
	}
	var buf []byte
	for _, d := range dirs {
		path := filepath.Join(dir, kfakePartitions, d.Name())
		topic, partition, ok := partitionOf(d.Name())
		if !ok || !d.IsDir() {
			return nil, fmt.Errorf("%s is no partition: %w", path, ErrCorrupt)
		}
		if topics == nil {
			return nil, fmt.Errorf("%s is there but %s is not: %w", path, filepath.Join(dir, kfakeTopics), ErrCorrupt)
		}
		if partition >= topics[topic] {
			s.orphans = append(s.orphans, path)
			continue
		}
		p := surveyedPartition{dir: path}
		if buf, err = s.partition(ctx, &p, topic, partition, clean, buf); err != nil {
			return nil, err
		}
		s.partitions = append(s.partitions, p)
	}
	return s, nil
}

// readTopics returns each topic's partition count, or nil when there is no list of topics yet.
func readTopics(dir string) (map[string]int32, error) {
	var meta struct {
		Version int `json:"version"`
	}
	var list struct {
		Topics []struct {
			Name       string `json:"name"`
			Partitions int32  `json:"partitions"`
		} `json:"topics"`
	}
	hasMeta, err := readJSON(filepath.Join(dir, kfakeMeta), &meta)
	if err != nil {
		return nil, err
	}
	hasList, err := readJSON(filepath.Join(dir, kfakeTopics), &list)
	if err != nil {
		return nil, err
	}
	switch {
	case meta.Version > kfakeVersion:
		return nil, fmt.Errorf("the log in %s has version %d where this program reads %d: %w", dir, meta.Version, kfakeVersion, ErrFormat)
	case hasList && !hasMeta: // kfake would take the directory for a new one, and write over the list
		return nil, fmt.Errorf("%s is there but %s is not: %w", filepath.Join(dir, kfakeTopics), filepath.Join(dir, kfakeMeta), ErrCorrupt)
	case !hasList: // a first start that was killed writes the other file first
		return nil, nil
	}
	topics := make(map[string]int32, len(list.Topics))
	for _, t := range list.Topics {
		topics[t.Name] = t.Partitions
	}
	return topics, nil
}

// readJSON reports whether the file is there.
func readJSON(path string, into any) (bool, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the log's description: %w", err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return false, fmt.Errorf("reading %s (%w): %w", path, err, ErrCorrupt)
	}
	return true, nil
}

// partitionOf undoes kfake's naming of partition directories: the escaped topic, a dash, the number.
func partitionOf(name string) (topic string, partition int32, ok bool) {
	i := strings.LastIndexByte(name, '-')
	if i < 0 {
		return "", 0, false
	}
	n, err := strconv.ParseInt(name[i+1:], 10, 32)
	topic, err2 := url.PathUnescape(name[:i])
	return topic, int32(n), err == nil && err2 == nil && n >= 0
}

// partition checks one partition's segments in order. buf is reused from one call to the next.
func (s *survey) partition(ctx context.Context, p *surveyedPartition, topic string, partition int32, clean bool, buf []byte) ([]byte, error) {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return buf, fmt.Errorf("listing a partition: %w", err)
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), segmentSuffix); ok {
			base, err := strconv.ParseInt(name, 10, 64)
			if err != nil {
				return buf, fmt.Errorf("%s is no segment: %w", filepath.Join(p.dir, e.Name()), ErrCorrupt)
			}
			p.segments = append(p.segments, surveyedSegment{base: base})
		}
	}
	slices.SortFunc(p.segments, func(a, b surveyedSegment) int { return cmp.Compare(a.base, b.base) })

	for i := range p.segments {
		if err := ctx.Err(); err != nil {
			return buf, fmt.Errorf("checking the log: %w", err)
		}
		seg := &p.segments[i]
		path := p.segmentPath(seg, segmentSuffix)
		if buf, err = readInto(buf, path); err != nil {
			return buf, fmt.Errorf("reading a segment: %w", err)
		}
		next, pos := seg.base, 0
		var batches []batch
		for pos < len(buf) {
			b, ok := parseBatch(buf[pos:])
			if !ok {
				break
			}
			if b.baseOffset != next {
				return buf, fmt.Errorf("%s, byte %d: offset %d where %d is due: %w", path, pos, b.baseOffset, next, ErrCorrupt)
			}
			if !clean {
				s.windows.add(topic, partition, b)
				batches = append(batches, b)
			}
			next, pos = b.nextOffset(), pos+b.size
		}
		last := i == len(p.segments)-1
		if rest := buf[pos:]; len(rest) > 0 {
			if clean || !last || laterBatch(rest, next) {
				return buf, fmt.Errorf("%s, byte %d: the record batch at offset %d is damaged: %w", path, pos, next, ErrCorrupt)
			}
			s.tornBytes += int64(len(rest))
		}
		if !last && p.segments[i+1].base != next {
			return buf, fmt.Errorf("%s ends before offset %d, the next segment begins at %d: %w", path, next, p.segments[i+1].base, ErrCorrupt)
		}
		if !clean {
			if seg.index, err = repairedIndex(p.segmentPath(seg, indexSuffix), batches); err != nil {
				return buf, err
			}
		}
	}
	return buf, nil
}

func (p *surveyedPartition) segmentPath(seg *surveyedSegment, suffix string) string {
	return filepath.Join(p.dir, strconv.FormatInt(seg.base, 10)+suffix)
}

// readInto reads a whole file into buf, grown if need be. Segments are tens of megabytes: one buffer serves them all.
func readInto(buf []byte, path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return buf[:0], err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return buf[:0], err
	}
	buf = slices.Grow(buf[:0], int(info.Size()))[:info.Size()]
	n, err := f.ReadAt(buf, 0)
	if n == len(buf) {
		err = nil
	}
	return buf[:n], err
}
