package decide

import (
	"github.com/tidemark-dev/tidemark/processor/hot"
	"github.com/tidemark-dev/tidemark/processor/store"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
)

// Group is what goes out in one step: change and control records that end in a commit, and dead letters. It owns its memory.
type Group struct {
	Records []store.Record
	Extra   []Extra // beside Records: what only the envelope says
	Dead    []DeadLetter
	RawNext int64
	Bytes   int // estimate of the encoded size

	// overlay entries that this group made, in order
	versions []*version
	seen     *store.Checkpoint // of what came before and with the group; to be stored when it is applied

	// Memory of which the group gives pieces away; what is full is left to those who have pieces of it.
	arena  []byte
	fields []uint32
	slab   []version
}

// newGroup returns a group that has room for about that many records: they are large, and copying them as the group grows would cost
// more than deciding most of them.
func newGroup(expect int) *Group {
	expect += expect / 8
	return &Group{
		Records: make([]store.Record, 0, expect), Extra: make([]Extra, 0, expect), versions: make([]*version, 0, expect),
		slab: make([]version, 0, expect),
	}
}

// Extra is what the envelope of a change says beyond its store.Record.
type Extra struct {
	Before       []byte
	Changed      []string
	ChangedKnown bool
	Schema       []byte
	ReceivedMS   int64 // time of the raw event on its topic
}

// DeadLetter is a raw event that could not be applied.
type DeadLetter struct {
	Offset  int64
	Key     []byte
	Value   []byte
	Headers []event.Header
	Code    errcode.Code
	Detail  string
}

// FirstCSN is the csn of the first record; 0 if there is none.
func (g *Group) FirstCSN() uint64 {
	if len(g.Records) == 0 {
		return 0
	}
	return g.Records[0].Meta.CSN
}

// LastCSN is the csn of the last record; 0 if there is none.
func (g *Group) LastCSN() uint64 {
	if len(g.Records) == 0 {
		return 0
	}
	return g.Records[len(g.Records)-1].Meta.CSN
}

// version is a change in flight: decided, but not yet applied.
type version struct {
	tip        *tip
	generation int // of the tip's overlay
	fp         hot.Fingerprint
	id         string
	entry      hot.Entry // Fields owned
	op         event.Op
	payload    []byte
	names      []string
}

// Chunks of a group's memory double, so that a small group stays small.
const (
	arenaFirst = 1 << 10
	arenaMost  = 64 << 10
)

// keep copies b into memory of the group.
func (g *Group) keep(b []byte) []byte {
	if len(b) == 0 {
		if b == nil {
			return nil
		}
		return []byte{}
	}
	if cap(g.arena)-len(g.arena) < len(b) {
		g.arena = make([]byte, 0, max(min(2*cap(g.arena), arenaMost), arenaFirst, len(b)))
	}
	n := len(g.arena)
	g.arena = append(g.arena, b...)
	return g.arena[n:len(g.arena):len(g.arena)]
}

const (
	fieldsFirst = 64
	fieldsMost  = 8 << 10
	slabMin     = 16
)

// keepFields copies field hashes into memory of the group.
func (g *Group) keepFields(f []uint32) []uint32 {
	if cap(g.fields)-len(g.fields) < len(f) {
		g.fields = make([]uint32, 0, max(min(2*cap(g.fields), fieldsMost), fieldsFirst, len(f)))
	}
	n := len(g.fields)
	g.fields = append(g.fields, f...)
	return g.fields[n:len(g.fields):len(g.fields)]
}

// newVersion returns a zero version in memory of the group.
func (g *Group) newVersion() *version {
	if len(g.slab) == cap(g.slab) {
		g.slab = make([]version, 0, slabMin)
	}
	g.slab = g.slab[:len(g.slab)+1]
	return &g.slab[len(g.slab)-1]
}
