package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tidemark-dev/tidemark/processor/segment"
	"github.com/tidemark-dev/tidemark/schemas/event"
)

// StateRow is one row of R, or of what belongs to it, as it travels on the state topic: key and value are those of the local store.
// A record of the state topic is such a row; the row with key StateMark ends a stretch of them.
type StateRow struct{ Key, Value []byte }

// StateMark is the key of the record that says how far the state topic is complete.
var StateMark = []byte{keyMeta, 's'}

// Mark is the value of StateMark: with the rows before it, and the changes from NextOffset on, nothing is missing.
type Mark struct {
	CSN        uint64 `json:"csn"`
	Meta       meta   `json:"meta"`        // as of CSN
	NextOffset int64  `json:"next_offset"` // on the changes topic
}

// StateRows calls fn with the rows that a node with an empty disk needs beside the changes above csn until: the latest versions of
// records in (after, until], and every stream, run, shape and position. until must be the end of a group. It ends with the mark. The follower may go on meanwhile; a
// stream row may be newer than until, and says so itself.
func (s *Store) StateRows(after, until uint64, fn func(StateRow) error) error {
	s.mu.RLock()
	wanted := map[uint32][]uint64{}
	for sid, v := range s.bySID {
		it := v.latest.Iterator()
		it.AdvanceIfNeeded(after + 1)
		for it.HasNext() && it.PeekNext() <= until {
			wanted[sid] = append(wanted[sid], it.Next())
		}
	}
	p, ok := s.positions.at(until)
	offset, _, _ := s.positions.offset(until)
	mark := Mark{CSN: until, NextOffset: offset + 1, Meta: s.meta}
	s.mu.RUnlock()
	if !ok {
		return fmt.Errorf("csn %d has no position on the changes topic", until)
	}
	// What was in between is read again from the changes: the state of rule V must be that of until.
	if until+1 < mark.Meta.NextCSN {
		mark.Meta.NextCSN, mark.Meta.Term, mark.Meta.Nonce, mark.Meta.RawNext = until+1, p.Term, p.Nonce, 0
	}
	mark.Meta.NextOffset = mark.NextOffset
	for sid, csns := range wanted {
		err := s.rows(sid, csns, func(r *Row) error {
			if r.Op == event.OpUnknown {
				return nil
			}
			v, ok, err := s.Get(sid, r.ID)
			if err != nil || !ok || v.CSN != r.CSN {
				return err // it has changed since, and its newer version lies above until
			}
			return fn(StateRow{appendRowKey(nil, sid, r.ID), appendVersion(nil, &v)})
		})
		if err != nil {
			return err
		}
	}
	for _, space := range []byte{keyStream, keyRun, keyShape, keyRestored, keyPosition} {
		err := s.scan([]byte{space}, []byte{space + 1}, func(key, value []byte) error {
			return fn(StateRow{append([]byte(nil), key...), append([]byte(nil), value...)})
		})
		if err != nil {
			return err
		}
	}
	b, err := json.Marshal(&mark)
	if err != nil {
		return fmt.Errorf("encoding mark: %w", err)
	}
	return fn(StateRow{StateMark, b})
}

// Bootstrap fills an empty store from rows of the state topic, which next returns one after the other, and then nil. Of several versions
// of a record the one with the highest csn counts, so that leftovers of an old writer do no harm. It returns the mark that was reached;
// the caller opens the store again and follows the changes from there.
func (s *Store) Bootstrap(next func() (*StateRow, error)) (*Mark, error) {
	if s.meta.NextCSN != 1 {
		return nil, errors.New("bootstrapping a store that is not empty")
	}
	var mark *Mark
	for n := 0; ; n++ {
		row, err := next()
		if err != nil {
			return nil, err
		}
		if row == nil {
			break
		}
		if len(row.Key) == 0 {
			return nil, fmt.Errorf("%w: state row without key", errRow)
		}
		switch {
		case string(row.Key) == string(StateMark):
			m := new(Mark)
			if err := json.Unmarshal(row.Value, m); err != nil {
				return nil, fmt.Errorf("state mark: %w", err)
			}
			if mark == nil || m.CSN > mark.CSN {
				mark = m
			}
		case row.Key[0] == keyRow:
			if err := s.bootRow(row); err != nil {
				return nil, err
			}
		default:
			if err := s.set(row.Key, row.Value); err != nil {
				return nil, err
			}
		}
		if n%4096 == 4095 {
			if err := s.commit(); err != nil {
				return nil, err
			}
		}
	}
	if mark == nil {
		return nil, errors.New("the state topic holds no complete stretch")
	}
	if err := s.commit(); err != nil {
		return nil, err
	}
	if err := s.bootVersions(mark); err != nil {
		return nil, err
	}
	s.meta, s.versionsCSN = mark.Meta, mark.CSN
	b, err := json.Marshal(&mark.Meta)
	if err != nil {
		return nil, fmt.Errorf("encoding applied position: %w", err)
	}
	if err := s.set(metaKey, b); err != nil {
		return nil, err
	}
	if err := s.set(versionsKey, binary.BigEndian.AppendUint64(nil, mark.CSN)); err != nil {
		return nil, err
	}
	if err := s.commit(); err != nil {
		return nil, err
	}
	// The payloads up to the mark are gone; the segments begin after it.
	if _, err := s.seg.DropBelow(mark.CSN + 1); err != nil {
		return nil, fmt.Errorf("beginning segments: %w", err)
	}
	return mark, s.db.Flush()
}

func (s *Store) bootRow(row *StateRow) error {
	var v, old Version
	if err := parseVersion(row.Value, &v); err != nil {
		return fmt.Errorf("state row: %w", err)
	}
	b, closer, err := s.db.Get(row.Key)
	switch {
	case errors.Is(err, pebble.ErrNotFound):
	case err != nil:
		return s.readError(err)
	default:
		err := parseVersion(b, &old)
		if err = errors.Join(err, closer.Close()); err != nil {
			return err
		}
		if old.CSN >= v.CSN {
			return nil
		}
	}
	return s.set(row.Key, row.Value)
}

// bootVersions makes version bits and late rows out of the rows of R. Rows of streams that were cleared since are dropped.
func (s *Store) bootVersions(mark *Mark) error {
	if err := s.load(); err != nil {
		return err
	}
	for sid, st := range s.streams {
		v := newVersions()
		var drop [][]byte
		err := s.Scan(sid, func(id []byte, r *Version) error {
			if r.CSN < st.ClearedCSN || r.CSN > mark.CSN {
				drop = append(drop, appendRowKey(nil, sid, id))
				return nil
			}
			v.set(r.CSN, !r.Live())
			return s.set(sidKey64(keyLate, sid, r.CSN), appendLate(nil, &segment.Record{
				Op: byte(r.Op), TS: r.TS, FirstSeen: r.FirstSeen, Rev: uint32(r.Rev), Hash: r.Hash, ID: id,
			}))
		})
		if err != nil {
			return err
		}
		for _, key := range drop {
			if err := s.batch.Delete(key, nil); err != nil {
				return fmt.Errorf("writing rows: %w", err)
			}
		}
		for chunk := range v.dirty {
			row, err := v.encodeChunk(chunk)
			if err != nil {
				return err
			}
			if err := s.set(sidKey64(keyVersions, sid, chunk), row); err != nil {
				return err
			}
		}
		if err := s.commit(); err != nil {
			return err
		}
	}
	return nil
}
