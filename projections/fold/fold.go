package fold

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/tidemark-dev/tidemark/projections/follow"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Config of a Folder. The zero value of a field stands for its default.
type Config struct {
	Partition int32
	// WindowBits is the size of a window: 2^WindowBits csns, 1 to 24. Default 13. It must not change within a generation of tables.
	WindowBits uint8
	// Keys are for fingerprints and hashed ids. Required.
	Keys *Keys
	// HashIDs writes a keyed hash in place of each record id.
	HashIDs bool
	// Erased says until when what is known of a record was erased; nil: nothing was. It must be safe for concurrent use.
	Erased func(id *stream.ID, recordID string) (untilMS int64)
}

// WindowBitsDefault fits one machine; a cluster of servers has fewer, larger rows with 16.
const WindowBitsDefault = 13

// Resume is where a Folder starts. It is plain data; its JSON is stable.
type Resume struct {
	// Position is in front of the group that holds Start, or behind everything if the next record opens a window.
	Position follow.Position `json:"position"`
	// Start is the first csn of the window that is being summed up, as far as it was read. 0: none yet.
	Start uint64 `json:"start"`
	// Facts is the highest csn whose facts and events are written.
	Facts uint64 `json:"facts"`
}

// Folder makes rows for one partition. Not safe for concurrent use.
type Folder struct {
	cfg    Config
	resume Resume
	next   follow.Position  // behind the last group
	facts  uint64           // highest csn made into a fact or event
	window uint64           // the one being summed up; 0: none yet
	end    uint64           // first csn of the next window
	cells  map[string]*cell // by stream key
	dirty  []*cell
	tail   event.Tail
	names  names
	erased bool // the current record is
}

// cell is one stream in the window.
type cell struct {
	id       *stream.ID
	cipher   cipher
	partials [levels]Partial // N is 0 until it is used
	fresh    [levels]bool    // the partial has changed since it was last written
	state    State
	moved    bool // so has the state
	listed   bool // in dirty
}

// New returns a folder that goes on from r. The zero Resume but for its position starts with the first record that comes.
func New(cfg Config, r Resume) (*Folder, error) {
	if cfg.WindowBits == 0 {
		cfg.WindowBits = WindowBitsDefault
	}
	if cfg.WindowBits > 24 {
		return nil, fmt.Errorf("windows of 2^%d csns: at most 24 bits", cfg.WindowBits)
	}
	if cfg.Keys == nil {
		return nil, errors.New("no keys for fingerprints")
	}
	return &Folder{cfg: cfg, resume: r, next: r.Position, facts: r.Facts, cells: map[string]*cell{}}, nil
}

// Window returns the first csn of the window that holds csn. There is no csn 0, but there is a window of it.
func (f *Folder) Window(csn uint64) uint64 { return csn >> f.cfg.WindowBits << f.cfg.WindowBits }

// Lost reports whether the records between the start of csn's window, or where this folder was to go on, and csn are gone from the log,
// so that nobody will ever sum them up again. Somebody may have: ask what is stored of Window(csn), and Begin behind it.
func (f *Folder) Lost(csn uint64) bool {
	return f.window == 0 && csn > max(f.resume.Start, f.Window(csn), 1)
}

// Begin says where summing up begins: at csn start. What it sums up up to the end of that window is a row of its own, beside that of the
// window. Call it before the first Take.
func (f *Folder) Begin(start uint64) { f.resume.Start = start }

// Resume is where to start again once all rows that were taken so far are written. Call it behind Flush.
func (f *Folder) Resume() Resume {
	r := f.resume
	r.Facts = f.facts
	return r
}

// CSN is the csn of the last record taken.
func (f *Folder) CSN() uint64 { return f.facts }

// Take makes rows of a group. It keeps nothing of it.
func (f *Folder) Take(g *follow.Group, rows *Rows) error {
	for i := range g.Records {
		rec := &g.Records[i]
		if csn := rec.Meta.CSN; csn >= f.end && csn >= f.resume.Start {
			f.turn(csn)
		}
		if err := f.take(rec, rows); err != nil {
			return fmt.Errorf("csn %d, offset %d: %w", rec.Meta.CSN, rec.Offset, err)
		}
	}
	f.next = g.Next
	return nil
}

// turn begins the window of csn. csns are dense, so that is its first, or the first after records that are gone.
func (f *Folder) turn(csn uint64) {
	clear(f.cells) // those that are not flushed yet are in dirty
	f.window, f.end = csn, f.Window(csn)+1<<f.cfg.WindowBits
	f.resume.Start, f.resume.Position = csn, f.next // in front of this group
}

// Flush makes rows of what has been summed up since the last time.
func (f *Folder) Flush(rows *Rows) {
	for _, c := range f.dirty {
		for l := range c.partials {
			c.write(Level(l), rows)
		}
		if c.moved {
			rows.States = append(rows.States, c.state)
		}
		c.moved, c.listed = false, false
	}
	f.dirty = f.dirty[:0]
}

func (c *cell) write(l Level, rows *Rows) {
	if c.fresh[l] {
		rows.Partials[l] = append(rows.Partials[l], c.partials[l])
		c.fresh[l] = false
	}
}

func (f *Folder) take(rec *follow.Record, rows *Rows) error {
	m := &rec.Meta
	isFact := rec.Op.IsChange() || rec.Op == event.OpRestored
	var c *cell
	var id string
	var err error
	switch {
	case isFact:
		c, id, err = f.record(rec.Key)
	case !bytes.HasPrefix(rec.Key, aboutPartition):
		c, err = f.cell(rec.Key)
	}
	if err != nil {
		return err
	}
	f.erased = c != nil && f.cfg.Erased != nil && m.TS <= f.cfg.Erased(c.id, id)
	if isFact {
		return f.change(rec, c, id, rows)
	}
	return f.control(rec, c, rows)
}

var aboutPartition = []byte("~p/")

// record takes the key of a change apart.
func (f *Folder) record(key []byte) (*cell, string, error) {
	if at := bytes.LastIndexByte(key, '/'); at > 0 && bytes.IndexByte(key[at:], '%') < 0 {
		c, err := f.cell(key[:at])
		return c, string(key[at+1:]), err
	}
	of, id, err := stream.SplitRecordKey(string(key))
	if err != nil {
		return nil, "", err
	}
	c, err := f.cell([]byte(of))
	return c, id, err
}

func (f *Folder) cell(key []byte) (*cell, error) {
	if c := f.cells[string(key)]; c != nil {
		return c, nil
	}
	id, err := stream.ParseKey(string(key))
	if err != nil {
		return nil, err
	}
	c := &cell{id: &id, cipher: f.cfg.Keys.of(id.Environment)}
	f.cells[string(key)] = c
	return c, nil
}

func (f *Folder) change(rec *follow.Record, c *cell, id string, rows *Rows) error {
	m := &rec.Meta
	if rec.Op != event.OpRestored {
		if err := event.ParseTail(rec.Value, m, &f.tail); err != nil {
			return err
		}
	} else {
		f.tail = event.Tail{Changed: f.tail.Changed[:0]}
	}
	fact := Fact{
		Stream: c.id, RecordID: id, ChangedAt: m.TS, Revision: m.Rev, Run: m.Run, PayloadBytes: clamp32(int64(m.PayloadLength)),
		Fingerprint: c.cipher.fingerprint(&m.Hash), Partition: uint16(f.cfg.Partition), CSN: m.CSN, Term: m.Term, Offset: uint64(rec.Offset),
	}
	if f.cfg.HashIDs {
		fact.RecordID = c.cipher.id(id)
	}
	if f.tail.ReceivedMS > 0 {
		fact.Flags |= FlagReceived
		fact.LagMS = clamp32(m.TS - f.tail.ReceivedMS)
	}
	switch rec.Op {
	case event.OpAdded:
		fact.Action = Added
	case event.OpUpdated:
		fact.Action = Updated
		f.fields(&fact, rows)
	case event.OpDeleted:
		fact.Action = Deleted
	case event.OpRestored:
		fact.Action = Restored
	}
	if m.CSN > f.facts {
		f.facts = m.CSN
		if !f.erased {
			rows.Facts = append(rows.Facts, fact)
		}
	}
	if rec.Op != event.OpRestored {
		f.state(c, m, m.Live, m.Digest)
	}
	f.sum(c, m, rows, &fact, nil)
	return nil
}

// fields takes over the names of the members that differ.
func (f *Folder) fields(fact *Fact, rows *Rows) {
	if !f.tail.ChangedKnown {
		return
	}
	fact.Flags |= FlagFieldsKnown
	fact.ChangedCount = uint16(min(len(f.tail.Changed), 1<<16-1))
	from := len(rows.names)
	for i, name := range f.tail.Changed {
		if i == FieldsMax {
			fact.Flags |= FlagFieldsTruncated
			break
		}
		if len(name) > FieldBytesMax {
			name = cut(name, FieldBytesMax)
			fact.Flags |= FlagFieldsTruncated
		}
		rows.names = append(rows.names, f.names.of(name))
	}
	fact.ChangedFields = rows.names[from:len(rows.names):len(rows.names)]
}

func (f *Folder) control(rec *follow.Record, c *cell, rows *Rows) error {
	m := &rec.Meta
	ctl, err := event.ParseControl(rec.Value)
	if err != nil {
		return err
	}
	e := Event{
		Stream: &stream.ID{}, Op: rec.Op, At: m.TS, Run: m.Run, Sync: ctl.Sync, Tracks: ctl.TrackDeletes, StartedAt: ctl.StartedMS,
		Outcome: string(ctl.Outcome), ToDelete: ctl.ToDelete, Reason: ctl.Reason, Detail: string(cut([]byte(ctl.Detail), DetailMax)),
		Decision: ctl.Decision, By: ctl.By, Events: ctl.Events, Mode: ctl.Mode, Records: ctl.Records, RecordID: ctl.RecordID,
		Term: m.Term, Partition: uint16(f.cfg.Partition), CSN: m.CSN, Offset: uint64(rec.Offset),
	}
	if ctl.Run != 0 {
		e.Run = ctl.Run
	}
	if ctl.Counts != nil {
		e.Counts = *ctl.Counts
	}
	if c != nil {
		e.Stream = c.id
		if f.cfg.HashIDs && e.RecordID != "" {
			e.RecordID = c.cipher.id(e.RecordID)
		}
	}
	if m.CSN > f.facts {
		f.facts = m.CSN
		if !f.erased {
			rows.Events = append(rows.Events, e)
		}
	}
	if c == nil {
		return nil
	}
	switch rec.Op {
	case event.OpCleared, event.OpPurged:
		if rec.Op == event.OpPurged || ctl.Mode == event.ClearHard { // a soft clear's DELETED events follow, and say what is left
			f.state(c, m, 0, [16]byte{})
		}
	case event.OpRunCompleted, event.OpRunFailed:
		f.sum(c, m, rows, nil, &e)
	}
	return nil
}

// state notes where a stream stands. It is not bound to windows: the newest wins.
func (f *Folder) state(c *cell, m *event.Meta, live uint64, digest [16]byte) {
	if f.erased {
		return
	}
	c.state = State{Stream: c.id, Partition: uint16(f.cfg.Partition), CSN: m.CSN, At: m.TS, Live: live, Digest: digest}
	c.moved = true
	f.list(c)
}

func (f *Folder) list(c *cell) {
	if !c.listed {
		c.listed = true
		f.dirty = append(f.dirty, c)
	}
}

// sum adds a change, or the end of a run, to the partials of its stream. Buckets never fall along csn, so one partial a level is enough.
func (f *Folder) sum(c *cell, m *event.Meta, rows *Rows, fact *Fact, end *Event) {
	if m.CSN < f.resume.Start || f.erased {
		return // of a window that is complete already, and whose start was not read
	}
	f.list(c)
	for l := range c.partials {
		p := &c.partials[l]
		width := int64(Level(l).Width().Seconds())
		bucket := m.TS / 1000 / width * width
		if p.N > 0 && p.Bucket != bucket {
			c.write(Level(l), rows)
			p.N = 0
		}
		if p.N == 0 {
			*p = Partial{Stream: c.id, Bucket: bucket, Partition: uint16(f.cfg.Partition), Window: f.window}
		}
		p.N++
		p.ToCSN = m.CSN
		if fact != nil {
			p.add(fact)
		} else {
			p.end(end)
		}
		c.fresh[l] = true
	}
}

func (p *Partial) add(fact *Fact) {
	switch fact.Action {
	case Added:
		p.Added++
	case Updated:
		p.Updated++
	case Deleted:
		p.Deleted++
	case Restored:
		p.Restored++
	}
	p.BytesWritten += uint64(fact.PayloadBytes)
	p.BytesMax = max(p.BytesMax, fact.PayloadBytes)
	p.LastChangeAt = fact.ChangedAt
	if fact.Flags&FlagReceived != 0 {
		p.LagSumMS += uint64(fact.LagMS)
		p.LagMaxMS = max(p.LagMaxMS, fact.LagMS)
		p.LagHist[lagSlot(fact.LagMS)]++
	}
}

func (p *Partial) end(e *Event) {
	p.Unchanged += e.Counts.Unchanged
	p.Runs++
	if e.Op == event.OpRunFailed {
		p.RunsFailed++
	}
}

func lagSlot(ms uint32) int {
	for i, bound := range LagBounds {
		if ms <= bound {
			return i
		}
	}
	return len(LagBounds)
}

func clamp32(n int64) uint32 { return uint32(max(0, min(n, 1<<32-1))) }

// cut shortens a text to at most n bytes, without leaving half a character.
func cut(b []byte, n int) []byte {
	if len(b) <= n {
		return b
	}
	for n > 0 && b[n]&0xC0 == 0x80 {
		n--
	}
	return b[:n]
}
