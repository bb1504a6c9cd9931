package model

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// Ledger is what the valid records of one partition say, checked record by record.
type Ledger struct {
	Streams map[string]*Account
	Dead    int
	nextCSN uint64
	lastTS  int64
	sids    map[uint32]string
	rawNext int64
}

// Account is a stream in the ledger.
type Account struct {
	Records map[string]*Entry
	Runs    map[uint64]*Run
	// Options are the options of the stream's model as the log tells them, ascending by offset on the raw topic.
	Options []Options
	sid     uint32
	live    uint64
	digest  *big.Int
	dels    map[uint64]uint64 // deletions by deletion detection, by run
}

// Options say which members make no change in the raw events from an offset on.
type Options struct {
	From        int64
	Fingerprint uint32
	Ignored     []string

	csn uint64
}

// Ignored returns what makes no change in the event of a stream at an offset of the raw topic.
func (l *Ledger) Ignored(key string, offset int64) (ignored []string) {
	if a := l.Streams[key]; a != nil {
		for _, o := range a.Options {
			if o.From <= offset {
				ignored = o.Ignored
			}
		}
	}
	return ignored
}

// Entry is a record in the ledger.
type Entry struct {
	Live    bool
	CSN     uint64
	Rev     uint64
	First   int64
	Hash    string
	Life    []Change
	payload string
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{Streams: map[string]*Account{}, nextCSN: 1, sids: map[uint32]string{}}
}

var modulus = new(big.Int).Lsh(big.NewInt(1), 128)

// Take checks the next valid record: I2, I4, live counts and digests after every change, monotone time, the envelope against the
// headers.
func (l *Ledger) Take(op event.Op, m *event.Meta, key, value []byte) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("csn %d (%s): %s", m.CSN, op, fmt.Sprintf(format, args...))
	}
	if m.CSN != l.nextCSN {
		return fail("I2: want csn %d", l.nextCSN)
	}
	l.nextCSN++
	if m.TS < l.lastTS {
		return fail("time falls from %d to %d", l.lastTS, m.TS)
	}
	l.lastTS = m.TS
	if m.Commit {
		if m.RawNext < l.rawNext {
			return fail("I3: raw_next falls from %d to %d", l.rawNext, m.RawNext)
		}
		l.rawNext = m.RawNext
	}
	if op.IsChange() {
		return l.change(op, m, key, value, fail)
	}
	if op == event.OpRestored {
		return nil
	}
	c, err := event.ParseControl(value)
	if err != nil {
		return fail("%v", err)
	}
	if op == event.OpDeadLettered {
		l.Dead++
	}
	if c.Stream == nil {
		return nil
	}
	if string(key) != c.Stream.Key() {
		return fail("key %q, stream %q", key, c.Stream.Key())
	}
	a, err := l.account(string(key), m.SID)
	if err != nil {
		return fail("%v", err)
	}
	switch op {
	case event.OpRunStarted:
		if a.Runs[m.Run] != nil {
			return fail("run %d starts twice", m.Run)
		}
		a.Runs[m.Run] = &Run{Outcome: "running"}
	case event.OpRunCompleted:
		run := a.Runs[m.Run]
		if run == nil || run.Outcome != "running" {
			return fail("run %d ends, but is not running", m.Run)
		}
		run.Outcome, run.ToDelete, run.Counts = string(c.Outcome), c.ToDelete, *c.Counts
	case event.OpRunFailed:
		run := a.Runs[m.Run]
		if run == nil || run.Outcome != "running" {
			return fail("run %d fails, but is not running", m.Run)
		}
		run.Outcome, run.Counts = string(c.Outcome), *c.Counts
	case event.OpReleased:
		run := a.Runs[m.Run]
		if run == nil || run.Outcome != "held" {
			return fail("run %d is released, but is not held", m.Run)
		}
		if c.Decision == event.DecisionDiscard {
			run.Outcome = "discarded"
		} else if run.Outcome, run.ToDelete = "sweeping", c.ToDelete; c.ToDelete == 0 {
			run.Outcome = "completed"
		}
	case event.OpSwept:
		if m.Run == 0 {
			return nil
		}
		run := a.Runs[m.Run]
		if run == nil || run.Outcome != "sweeping" {
			return fail("run %d is swept, but was not sweeping", m.Run)
		}
		if a.dels[m.Run] != run.ToDelete {
			return fail("run %d said it would delete %d, and deleted %d", m.Run, run.ToDelete, a.dels[m.Run])
		}
		run.Outcome = "completed"
	case event.OpModelOptions:
		last := Options{From: -1}
		if n := len(a.Options); n > 0 {
			last = a.Options[n-1]
		}
		switch {
		case c.Fingerprint == last.Fingerprint:
			return fail("the options are what they were: %x", c.Fingerprint)
		case slices.Equal(c.Ignored, last.Ignored):
			return fail("fingerprints %x and %x of one list, %q", c.Fingerprint, last.Fingerprint, c.Ignored)
		case (c.Fingerprint == 0) != (len(c.Ignored) == 0):
			return fail("fingerprint %x of %q", c.Fingerprint, c.Ignored)
		case m.RawOffset <= last.From:
			return fail("options from raw offset %d on come after those from %d on", m.RawOffset, last.From)
		}
		a.Options = append(a.Options, Options{m.RawOffset, c.Fingerprint, c.Ignored, m.CSN})
	case event.OpCleared, event.OpPurged:
		if c.Mode == event.ClearSoft {
			return nil
		}
		a.Records, a.live, a.digest = map[string]*Entry{}, 0, new(big.Int)
		for _, run := range a.Runs {
			if run.Outcome == "held" || run.Outcome == "sweeping" {
				run.Outcome = "completed"
			}
		}
	}
	return nil
}

func (l *Ledger) account(key string, sid uint32) (*Account, error) {
	if owner, ok := l.sids[sid]; ok && owner != key {
		return nil, fmt.Errorf("number %d belongs to %s and %s", sid, owner, key)
	}
	a := l.Streams[key]
	if a == nil {
		a = &Account{Records: map[string]*Entry{}, Runs: map[uint64]*Run{}, sid: sid, digest: new(big.Int), dels: map[uint64]uint64{}}
		l.Streams[key] = a
		l.sids[sid] = key
	}
	if a.sid != sid {
		return nil, fmt.Errorf("%s has numbers %d and %d", key, a.sid, sid)
	}
	return a, nil
}

func contribution(id string, hash [16]byte) *big.Int {
	h := xxh3.Hash128(append(append([]byte(id), 0x1F), hash[:]...)).Bytes()
	return new(big.Int).SetBytes(h[:])
}

func (l *Ledger) change(op event.Op, m *event.Meta, key, value []byte, fail func(string, ...any) error) error {
	streamKey, id, err := stream.SplitRecordKey(string(key))
	if err != nil {
		return fail("%v", err)
	}
	a, err := l.account(streamKey, m.SID)
	if err != nil {
		return fail("%v", err)
	}
	e := a.Records[id]
	if e == nil {
		e = &Entry{}
		a.Records[id] = e
	}
	if m.PrevCSN != e.CSN {
		return fail("I4: prev_csn %d of %q, want %d", m.PrevCSN, id, e.CSN)
	}
	if m.Rev != e.Rev+1 {
		return fail("rev %d of %q, want %d", m.Rev, id, e.Rev+1)
	}
	var env event.Envelope
	if err := json.Unmarshal(value, &env); err != nil {
		return fail("envelope: %v", err)
	}
	payload, err := event.Payload(value, m)
	if err != nil {
		return fail("%v", err)
	}
	hash := hex.EncodeToString(m.Hash[:])
	if env.Hash != base64.RawURLEncoding.EncodeToString(m.Hash[:]) || env.Action != op.String() || env.Key.RecordID != id || env.Key.ID.Key() != streamKey || env.Rev != m.Rev {
		return fail("envelope and headers differ: %+v", env)
	}
	canonical := ""
	if payload != nil {
		if canonical, err = Canonical(payload, nil); err != nil {
			return fail("payload: %v", err)
		}
	}
	c := Change{Op: op, Payload: canonical}
	digest := a.digest
	switch op {
	case event.OpAdded:
		if e.Live {
			return fail("I4: ADDED of live %q", id)
		}
		if m.FirstSeen != m.TS {
			return fail("first_seen of %q is not the time of the ADDED", id)
		}
		a.live++
		digest.Add(digest, contribution(id, m.Hash))
	case event.OpUpdated:
		if !e.Live {
			return fail("I4: UPDATED of %q, which is not live", id)
		}
		if e.Hash == hash && (len(a.Options) == 0 || e.CSN > a.Options[len(a.Options)-1].csn) {
			return fail("I4: UPDATED of %q with the same hash", id)
		}
		if m.FirstSeen != e.First {
			return fail("first_seen of %q moved", id)
		}
		digest.Sub(digest, contribution(id, unhex(e.Hash)))
		digest.Add(digest, contribution(id, m.Hash))
		c.Changed = "?"
		if env.Changed != nil {
			names := slices.Clone(env.Changed)
			slices.Sort(names)
			c.Changed = strings.Join(names, ",")
		}
	case event.OpDeleted:
		if !e.Live {
			return fail("I4: DELETED of %q, which is not live", id)
		}
		if e.Hash != hash {
			return fail("DELETED of %q changes the hash", id)
		}
		a.live--
		digest.Sub(digest, contribution(id, m.Hash))
		if payload != nil && canonical != e.payload {
			return fail("DELETED of %q does not carry the last payload", id)
		}
		if m.RawOffset < 0 {
			a.dels[m.Run]++
		}
	}
	digest.Mod(digest, modulus)
	if m.Live != a.live {
		return fail("live count %d, want %d", m.Live, a.live)
	}
	if got := new(big.Int).SetBytes(m.Digest[:]); got.Cmp(digest) != 0 {
		return fail("digest after %q is wrong", id)
	}
	e.Live, e.CSN, e.Rev, e.First, e.Hash, e.payload = op != event.OpDeleted, m.CSN, m.Rev, m.FirstSeen, hash, canonical
	e.Life = append(e.Life, c)
	return nil
}

func unhex(s string) (h [16]byte) {
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		binary.BigEndian.PutUint64(h[:], 0)
	}
	return h
}

// NextCSN is the csn after the last record taken.
func (l *Ledger) NextCSN() uint64 { return l.nextCSN }

// RawNext is the raw position of the last commit.
func (l *Ledger) RawNext() int64 { return l.rawNext }

// Compare holds the ledger against the model (I5): the lives of all records, the runs and the dead letters must be the same. All sweeps
// must have ended. What left no trace in the log is told apart - unchanged, skipped, not found - only while no writer died: a new one
// knows their sum.
func Compare(m *Model, l *Ledger, crashed bool) error {
	for key, s := range m.Streams {
		a := l.Streams[key]
		if a == nil {
			if len(s.Records) > 0 || len(s.Runs) > 0 {
				return fmt.Errorf("I5: stream %s is missing", key)
			}
			continue
		}
		for id, rec := range s.Records {
			e := a.Records[id]
			if e == nil {
				return fmt.Errorf("I5: %s: record %q is missing, want %v", key, id, rec.Life)
			}
			if !sameLife(rec.Life, e.Life) {
				return fmt.Errorf("I5: %s: record %q\nwant %+v\nhave %+v", key, id, rec.Life, e.Life)
			}
		}
		for id, e := range a.Records {
			if s.Records[id] == nil {
				return fmt.Errorf("I5: %s: record %q should not be there: %+v", key, id, e.Life)
			}
		}
		for seq, want := range s.Runs {
			have := a.Runs[seq]
			if have == nil {
				return fmt.Errorf("I5: %s: run %d is missing", key, seq)
			}
			if crashed {
				have.Counts, want.Counts = traceless(have.Counts), traceless(want.Counts)
			}
			if *have != *want {
				return fmt.Errorf("I5: %s: run %d\nwant %+v\nhave %+v", key, seq, *want, *have)
			}
		}
	}
	for key, a := range l.Streams {
		if m.Streams[key] == nil && len(a.Records) > 0 {
			return fmt.Errorf("I5: stream %s should not be there", key)
		}
	}
	if m.Dead != l.Dead {
		return fmt.Errorf("I5: %d dead letters, want %d", l.Dead, m.Dead)
	}
	return nil
}

// traceless adds up what left no trace.
func traceless(c event.RunCounts) event.RunCounts {
	c.Unchanged, c.Skipped, c.NotFound = c.Unchanged+c.Skipped+c.NotFound, 0, 0
	return c
}

// sameLife compares two lives. That the names of changed members are not known ("?") is no excuse: no payload is pruned here.
func sameLife(want, have []Change) bool {
	return slices.EqualFunc(want, have, func(a, b Change) bool {
		return a.Op == b.Op && a.Payload == b.Payload && a.Changed == b.Changed
	})
}
