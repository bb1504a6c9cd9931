package store

import (
	"encoding/binary"
	"fmt"
	"sort"
)

// position says that from CSN on, records lie at Offset + (csn - CSN) and were written in Term. A new one is needed only where
// that changes: at a takeover and, on clusters with transactions, at every commit marker.
type position struct {
	CSN    uint64
	Offset int64
	Term   uint64
	Nonce  uint32
}

// positions is ascending by CSN.
type positions []position

// at returns the entry that covers csn.
func (p positions) at(csn uint64) (position, bool) {
	i := sort.Search(len(p), func(i int) bool { return p[i].CSN > csn })
	if i == 0 {
		return position{}, false
	}
	return p[i-1], true
}

// offset returns where csn lies on the changes topic, and its term.
func (p positions) offset(csn uint64) (offset int64, term uint64, ok bool) {
	e, ok := p.at(csn)
	if !ok {
		return -1, 0, false
	}
	return e.Offset + int64(csn-e.CSN), e.Term, true
}

// covers reports whether the table already says that csn lies at offset in that term.
func (p positions) covers(next position) bool {
	if len(p) == 0 {
		return false
	}
	last := p[len(p)-1]
	return last.Term == next.Term && last.Nonce == next.Nonce && last.Offset+int64(next.CSN-last.CSN) == next.Offset
}

func (e position) key() []byte {
	return binary.BigEndian.AppendUint64([]byte{keyPosition}, e.CSN)
}

func (e position) value() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(e.Offset))
	b = binary.BigEndian.AppendUint64(b, e.Term)
	return binary.BigEndian.AppendUint32(b, e.Nonce)
}

func parsePosition(key, value []byte) (position, error) {
	if len(key) != 9 || len(value) != 20 {
		return position{}, fmt.Errorf("%w: position of %d and %d bytes", errRow, len(key), len(value))
	}
	return position{
		CSN:    binary.BigEndian.Uint64(key[1:]),
		Offset: int64(binary.BigEndian.Uint64(value)),
		Term:   binary.BigEndian.Uint64(value[8:]),
		Nonce:  binary.BigEndian.Uint32(value[16:]),
	}, nil
}
