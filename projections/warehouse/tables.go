package warehouse

import (
	"strings"
	"time"

	"github.com/tidemark-dev/tidemark/projections/fold"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// level is one of the tables of partials.
type level struct {
	Level     fold.Level
	Table     string
	Partition string // expression; a key's rows meet in one partition, for it is a function of the bucket
	days      func(Retention) int
}

func (w *Warehouse) levels() []level {
	minute := "toYYYYMMDD(bucket)"
	if w.cfg.Topology == Embedded {
		minute = "toYYYYMM(bucket)"
	}
	return []level{
		{fold.Minute, "changes_1m", minute, func(r Retention) int { return r.Minute }},
		{fold.Hour, "changes_1h", "toYYYYMM(bucket)", func(r Retention) int { return r.Hour }},
		{fold.Day, "changes_1d", "toYear(bucket)", func(r Retention) int { return r.Day }},
	}
}

// generationTables are the tables of one generation, without the suffix.
var generationTables = []string{"changes", "changes_1m", "changes_1h", "changes_1d", "events", "stream_state"}

// layout is the columns of a table in the order in which they are sent, and how rows of the batch become values.
type layout struct {
	table   string
	columns []column
	names   string // "a, b, c"
}

func newLayout(table string, columns ...column) layout {
	names := make([]string, 0, len(columns))
	for _, c := range columns {
		names = append(names, c.header().name)
	}
	return layout{table: table, columns: columns, names: strings.Join(names, ", ")}
}

func (l *layout) reset() {
	for _, c := range l.columns {
		c.reset()
	}
}

func (l *layout) rows() int { return l.columns[0].rows() }

func newWords(name string) *words {
	return &words{columnHeader: columnHeader{name, "LowCardinality(String)"}}
}

func newText(name string) *text { return &text{columnHeader: columnHeader{name, "String"}} }

func newUint16(name string) *fixed[uint16] {
	return &fixed[uint16]{columnHeader: columnHeader{name, "UInt16"}}
}

func newUint32(name string) *fixed[uint32] {
	return &fixed[uint32]{columnHeader: columnHeader{name, "UInt32"}}
}

func newUint64(name string) *fixed[uint64] {
	return &fixed[uint64]{columnHeader: columnHeader{name, "UInt64"}}
}

func newInt64(name string) *fixed[int64] {
	return &fixed[int64]{columnHeader: columnHeader{name, "Int64"}}
}

// newMillis is a column of type DateTime64(3), in ms since the epoch. The driver takes int64 for ms.
func newMillis(name string) *fixed[int64] {
	return &fixed[int64]{columnHeader: columnHeader{name, "DateTime64(3, 'UTC')"}}
}

// newSeconds is a column of type DateTime, in s since the epoch.
func newSeconds(name string) *fixed[uint32] {
	return &fixed[uint32]{columnHeader: columnHeader{name, "DateTime('UTC')"}, typed: func(v []uint32) any {
		out := make([]time.Time, 0, len(v))
		for _, s := range v {
			out = append(out, time.Unix(int64(s), 0).UTC())
		}
		return out
	}}
}

// streamColumns are the five that name a stream, in the order of the sort keys.
type streamColumns struct {
	environment, integration *words
	connection               *text
	model, variant           *words
	// known are the codes of streams met in this batch, by identity: ids are shared between the rows of a stream.
	known map[*stream.ID][4]uint32
	last  *stream.ID
	codes [4]uint32
}

func newStreamColumns() *streamColumns {
	return &streamColumns{
		environment: newWords("environment"), integration: newWords("integration"), connection: newText("connection"),
		model: newWords("model"), variant: newWords("variant"), known: make(map[*stream.ID][4]uint32),
	}
}

func (c *streamColumns) list() []column {
	return []column{c.environment, c.integration, c.connection, c.model, c.variant}
}

func (c *streamColumns) reset() {
	clear(c.known)
	c.last = nil
}

// none stands for the stream of what is about a whole partition.
var none stream.ID

func (c *streamColumns) add(id *stream.ID) {
	if id == nil {
		id = &none
	}
	if id != c.last {
		codes, ok := c.known[id]
		if !ok {
			codes = [4]uint32{c.environment.code(id.Environment), c.integration.code(id.Integration), c.model.code(id.Model), c.variant.code(id.Variant)}
			c.known[id] = codes
		}
		c.last, c.codes = id, codes
	}
	c.environment.v = append(c.environment.v, c.codes[0])
	c.integration.v = append(c.integration.v, c.codes[1])
	c.connection.add(id.Connection)
	c.model.v = append(c.model.v, c.codes[2])
	c.variant.v = append(c.variant.v, c.codes[3])
}

type factTable struct {
	layout
	stream              *streamColumns
	recordID            *text
	action              *fixed[int8]
	changedAt           *fixed[int64]
	revision, run       *fixed[uint64]
	changedFields       *wordLists
	changedCount, flags *fixed[uint16]
	payloadBytes        *fixed[uint32]
	fingerprint         *fixed[uint64]
	lag                 *fixed[uint32]
	partition           *fixed[uint16]
	csn, term           *fixed[uint64]
	offsetDelta         *fixed[int64]
}

const actionEnum = "Enum8('added' = 1, 'updated' = 2, 'deleted' = 3, 'restored' = 4)"

func newFactTable() *factTable {
	t := &factTable{
		stream: newStreamColumns(), recordID: newText("record_id"), action: &fixed[int8]{columnHeader: columnHeader{"action", actionEnum}},
		changedAt: newMillis("changed_at"), revision: newUint64("revision"), run: newUint64("run"),
		changedFields: &wordLists{columnHeader: columnHeader{"changed_fields", "Array(LowCardinality(String))"}},
		changedCount:  newUint16("changed_count"), flags: newUint16("flags"), payloadBytes: newUint32("payload_bytes"),
		fingerprint: newUint64("payload_fp"), lag: newUint32("lag_ms"), partition: newUint16("kpart"), csn: newUint64("csn"),
		term: newUint64("term"), offsetDelta: newInt64("koffset_delta"),
	}
	t.layout = newLayout("changes", append(t.stream.list(), t.recordID, t.action, t.changedAt, t.revision, t.run, t.changedFields, t.changedCount,
		t.flags, t.payloadBytes, t.fingerprint, t.lag, t.partition, t.csn, t.term, t.offsetDelta)...)
	return t
}

func (t *factTable) fill(facts []fold.Fact) {
	for i := range facts {
		f := &facts[i]
		t.stream.add(f.Stream)
		t.recordID.add(f.RecordID)
		t.action.add(int8(f.Action))
		t.changedAt.add(f.ChangedAt)
		t.revision.add(f.Revision)
		t.run.add(f.Run)
		t.changedFields.add(f.ChangedFields)
		t.changedCount.add(f.ChangedCount)
		t.flags.add(uint16(f.Flags))
		t.payloadBytes.add(f.PayloadBytes)
		t.fingerprint.add(f.Fingerprint)
		t.lag.add(f.LagMS)
		t.partition.add(f.Partition)
		t.csn.add(f.CSN)
		t.term.add(f.Term)
		t.offsetDelta.add(int64(f.Offset - f.CSN))
	}
}

type partialTable struct {
	layout
	stream                            *streamColumns
	bucket                            *fixed[uint32]
	window                            *fixed[uint64]
	partition                         *fixed[uint16]
	n                                 *fixed[uint32]
	toCSN                             *fixed[uint64]
	added, updated, deleted, restored *fixed[uint32]
	unchanged                         *fixed[uint64]
	runs, runsFailed                  *fixed[uint32]
	bytesWritten                      *fixed[uint64]
	bytesMax                          *fixed[uint32]
	lagSum                            *fixed[uint64]
	lagMax                            *fixed[uint32]
	lagHist                           *histogram
	lastChangeAt                      *fixed[int64]
}

func newPartialTable(table string) *partialTable {
	t := &partialTable{
		stream: newStreamColumns(), bucket: newSeconds("bucket"), window: newUint64("win"), partition: newUint16("kpart"), n: newUint32("n"),
		toCSN: newUint64("to_csn"), added: newUint32("added"), updated: newUint32("updated"), deleted: newUint32("deleted"),
		restored: newUint32("restored"), unchanged: newUint64("unchanged"), runs: newUint32("runs"), runsFailed: newUint32("runs_failed"),
		bytesWritten: newUint64("bytes_written"), bytesMax: newUint32("bytes_max"), lagSum: newUint64("lag_sum_ms"),
		lagMax: newUint32("lag_max_ms"), lagHist: &histogram{columnHeader: columnHeader{"lag_hist", "Array(UInt32)"}},
		lastChangeAt: newMillis("last_change_at"),
	}
	t.layout = newLayout(table, append(t.stream.list(), t.bucket, t.window, t.partition, t.n, t.toCSN, t.added, t.updated, t.deleted, t.restored,
		t.unchanged, t.runs, t.runsFailed, t.bytesWritten, t.bytesMax, t.lagSum, t.lagMax, t.lagHist, t.lastChangeAt)...)
	return t
}

func (t *partialTable) fill(partials []fold.Partial) {
	for i := range partials {
		p := &partials[i]
		t.stream.add(p.Stream)
		t.bucket.add(uint32(p.Bucket))
		t.window.add(p.Window)
		t.partition.add(p.Partition)
		t.n.add(p.N)
		t.toCSN.add(p.ToCSN)
		t.added.add(p.Added)
		t.updated.add(p.Updated)
		t.deleted.add(p.Deleted)
		t.restored.add(p.Restored)
		t.unchanged.add(p.Unchanged)
		t.runs.add(p.Runs)
		t.runsFailed.add(p.RunsFailed)
		t.bytesWritten.add(p.BytesWritten)
		t.bytesMax.add(p.BytesMax)
		t.lagSum.add(p.LagSumMS)
		t.lagMax.add(p.LagMaxMS)
		t.lagHist.add(&p.LagHist)
		t.lastChangeAt.add(p.LastChangeAt)
	}
}

type eventTable struct {
	layout
	stream                                                              *streamColumns
	op                                                                  *words
	at                                                                  *fixed[int64]
	run                                                                 *fixed[uint64]
	sync                                                                *words
	tracks                                                              *fixed[uint8]
	startedAt                                                           *fixed[int64]
	added, updated, deleted, unchanged, skipped, notFound, deadLettered *fixed[uint64]
	outcome                                                             *words
	toDelete                                                            *fixed[uint64]
	reason                                                              *words
	detail                                                              *text
	decision                                                            *words
	by                                                                  *text
	events                                                              *fixed[uint64]
	mode                                                                *words
	records                                                             *fixed[uint64]
	recordID                                                            *text
	term                                                                *fixed[uint64]
	partition                                                           *fixed[uint16]
	csn                                                                 *fixed[uint64]
	offsetDelta                                                         *fixed[int64]
}

func newEventTable() *eventTable {
	t := &eventTable{
		stream: newStreamColumns(), op: newWords("op"), at: newMillis("at"), run: newUint64("run"), sync: newWords("sync"),
		tracks: &fixed[uint8]{columnHeader: columnHeader{"tracks", "UInt8"}}, startedAt: newMillis("started_at"),
		added: newUint64("added"), updated: newUint64("updated"), deleted: newUint64("deleted"), unchanged: newUint64("unchanged"),
		skipped: newUint64("skipped"), notFound: newUint64("not_found"), deadLettered: newUint64("dead_lettered"),
		outcome: newWords("outcome"), toDelete: newUint64("to_delete"), reason: newWords("reason"), detail: newText("detail"),
		decision: newWords("decision"), by: newText("decided_by"), events: newUint64("events"), mode: newWords("mode"),
		records: newUint64("records"), recordID: newText("record_id"), term: newUint64("term"),
		partition: newUint16("kpart"), csn: newUint64("csn"), offsetDelta: newInt64("koffset_delta"),
	}
	t.layout = newLayout("events", append(t.stream.list(), t.op, t.at, t.run, t.sync, t.tracks, t.startedAt, t.added, t.updated, t.deleted,
		t.unchanged, t.skipped, t.notFound, t.deadLettered, t.outcome, t.toDelete, t.reason, t.detail, t.decision, t.by, t.events, t.mode,
		t.records, t.recordID, t.term, t.partition, t.csn, t.offsetDelta)...)
	return t
}

func (t *eventTable) fill(events []fold.Event) {
	for i := range events {
		e := &events[i]
		t.stream.add(e.Stream)
		t.op.add(e.Op.String())
		t.at.add(e.At)
		t.run.add(e.Run)
		t.sync.add(e.Sync)
		t.tracks.add(0)
		if e.Tracks {
			t.tracks.v[len(t.tracks.v)-1] = 1
		}
		t.startedAt.add(e.StartedAt)
		t.added.add(e.Counts.Added)
		t.updated.add(e.Counts.Updated)
		t.deleted.add(e.Counts.Deleted)
		t.unchanged.add(e.Counts.Unchanged)
		t.skipped.add(e.Counts.Skipped)
		t.notFound.add(e.Counts.NotFound)
		t.deadLettered.add(e.Counts.DeadLettered)
		t.outcome.add(e.Outcome)
		t.toDelete.add(e.ToDelete)
		t.reason.add(e.Reason)
		t.detail.add(e.Detail)
		t.decision.add(e.Decision)
		t.by.add(e.By)
		t.events.add(e.Events)
		t.mode.add(e.Mode)
		t.records.add(e.Records)
		t.recordID.add(e.RecordID)
		t.term.add(e.Term)
		t.partition.add(e.Partition)
		t.csn.add(e.CSN)
		t.offsetDelta.add(int64(e.Offset - e.CSN))
	}
}

type stateTable struct {
	layout
	stream    *streamColumns
	csn       *fixed[uint64]
	at        *fixed[int64]
	records   *fixed[uint64]
	digest    *fixed[[16]byte]
	partition *fixed[uint16]
}

func newStateTable() *stateTable {
	t := &stateTable{
		stream: newStreamColumns(), csn: newUint64("csn"), at: newMillis("at"), records: newUint64("records"),
		digest:    &fixed[[16]byte]{columnHeader: columnHeader{"digest", "FixedString(16)"}},
		partition: newUint16("kpart"),
	}
	t.layout = newLayout("stream_state", append(t.stream.list(), t.csn, t.at, t.records, t.digest, t.partition)...)
	return t
}

func (t *stateTable) fill(states []fold.State) {
	for i := range states {
		s := &states[i]
		t.stream.add(s.Stream)
		t.csn.add(s.CSN)
		t.at.add(s.At)
		t.records.add(s.Live)
		t.digest.add(s.Digest)
		t.partition.add(s.Partition)
	}
}
