package devkafka

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Names inside the data directory.
const (
	lockFile   = "lock"
	stateFile  = "broker.json"
	cleanFile  = "clean"
	logDir     = "log"
	orphansDir = "orphans"

	formatVersion = 1
)

// state is broker.json: what the broker must know at its next start and kfake does not keep.
type state struct {
	dir string

	mu   sync.Mutex
	kept keptState
}

type keptState struct {
	Format int `json:"format"`
	// Port is the one last listened on.
	Port int `json:"port"`
	// Trims holds, by topic id (hex) and partition, the log start that the last trim set. By id, because a topic that is
	// deleted and made again starts over at offset 0. kfake saves log starts on an orderly stop only.
	Trims map[string]map[int32]int64 `json:"trims,omitempty"`
}

// loadState reads broker.json, or starts a new one in a directory that is empty but for the lock.
func loadState(dir string) (*state, error) {
	s := &state{dir: dir}
	path := filepath.Join(dir, stateFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, s.refuseForeign()
	}
	if err != nil {
		return nil, fmt.Errorf("reading the broker's state: %w", err)
	}
	if err := json.Unmarshal(text, &s.kept); err != nil {
		return nil, fmt.Errorf("reading %s (%w): %w", path, err, ErrCorrupt)
	}
	if s.kept.Format != formatVersion {
		return nil, fmt.Errorf("%s has format %d where this version reads %d: %w", path, s.kept.Format, formatVersion, ErrFormat)
	}
	return s, nil
}

// refuseForeign keeps the broker out of a directory with someone else's files in it. A lost+found comes with a fresh volume;
// the lock and a temporary state file come from a first start that was killed.
func (s *state) refuseForeign() error {
	s.kept.Format = formatVersion
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("listing the data directory: %w", err)
	}
	for _, e := range entries {
		if !slices.Contains([]string{lockFile, stateFile + tmpSuffix, "lost+found"}, e.Name()) {
			return fmt.Errorf("%s holds %q but no %s: %w", s.dir, e.Name(), stateFile, ErrFormat)
		}
	}
	return nil
}

func (s *state) port() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept.Port
}

func (s *state) setPort(port int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept.Port = port
	return s.saveLocked()
}

// trims returns the log starts to bring back, by topic id and partition.
func (s *state) trims() map[string]map[int32]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]map[int32]int64, len(s.kept.Trims))
	for id, parts := range s.kept.Trims {
		out[id] = make(map[int32]int64, len(parts))
		for p, off := range parts {
			out[id][p] = off
		}
	}
	return out
}

// setTrim keeps a log start. A lower one than before changes nothing.
func (s *state) setTrim(topicID string, partition int32, logStart int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := s.kept.Trims[topicID]
	old, had := parts[partition]
	if old >= logStart {
		return nil
	}
	if parts == nil {
		parts = make(map[int32]int64)
		if s.kept.Trims == nil {
			s.kept.Trims = make(map[string]map[int32]int64)
		}
		s.kept.Trims[topicID] = parts
	}
	parts[partition] = logStart
	err := s.saveLocked()
	if err != nil && had {
		parts[partition] = old
	} else if err != nil {
		delete(parts, partition)
	}
	return err
}

// forgetTrims drops what is kept of topics that are gone.
func (s *state) forgetTrims(topicIDs []string) error {
	if len(topicIDs) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range topicIDs {
		delete(s.kept.Trims, id)
	}
	return s.saveLocked()
}

func (s *state) saveLocked() error {
	text, err := json.Marshal(s.kept)
	if err != nil {
		return fmt.Errorf("encoding the broker's state: %w", err)
	}
	if err := replaceFile(filepath.Join(s.dir, stateFile), text); err != nil {
		return fmt.Errorf("saving the broker's state: %w", err)
	}
	return nil
}

// stoppedCleanly reports whether the last stop was orderly. True for a directory that never held a log.
func (s *state) stoppedCleanly() (bool, error) {
	for _, name := range []string{cleanFile, logDir} {
		_, err := os.Stat(filepath.Join(s.dir, name))
		if err == nil {
			return name == cleanFile, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("asking how the last stop went: %w", err)
		}
	}
	return true, nil
}

// markRunning comes before the first write to the log, markClean after the last.
func (s *state) markRunning() error {
	err := os.Remove(filepath.Join(s.dir, cleanFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the mark of a clean stop: %w", err)
	}
	return nil
}

func (s *state) markClean() error {
	if err := replaceFile(filepath.Join(s.dir, cleanFile), nil); err != nil {
		return fmt.Errorf("marking a clean stop: %w", err)
	}
	return nil
}

const tmpSuffix = ".tmp"

// replaceFile writes a whole file or none: the old content stays until the new is on the disk.
func replaceFile(path string, content []byte) error {
	tmp := path + tmpSuffix
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return os.Rename(tmp, path)
}
