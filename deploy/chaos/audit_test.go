package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/processor/model"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/rulev"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// audit holds the changes of one partition against its raw events, as far as both have been read.
type audit struct {
	partition int32
	model     *model.Model
	ledger    *model.Ledger
	rule      *rulev.Reader[*change]
	// rows are the latest versions of the records, by stream key and id: what a reader must be able to see.
	rows map[string]map[string]row
	// versions are all of them, by csn - 1. Control records have the zero row.
	versions []row
	dead     map[int64]bool // raw offsets that the log calls dead-lettered
	dlq      map[int64]bool // raw offsets of what lies on the dead-letter topic
	zombies  int            // records that rule V left out
	terms    int
}

// change is a record of the changes topic on its way through rule V.
type change struct {
	op   event.Op
	meta event.Meta
	rec  *kgo.Record
}

// row is one version of a record, as a page shows it.
type row struct {
	ID        string
	Op        string
	CSN       uint64
	Offset    int64
	Partition int32
	Term      uint64
	FirstSeen string
	Modified  string
	Payload   string // canonical
}

func newAudit(partition, partitions int32) *audit {
	return &audit{
		partition: partition, model: model.New(partition, partitions), ledger: model.NewLedger(),
		rule: rulev.NewReader[*change](rulev.Start()), rows: map[string]map[string]row{}, dead: map[int64]bool{}, dlq: map[int64]bool{},
	}
}

// take reads what the tapes have.
func (a *audit) take(s *site, tp *tapes) error {
	for _, r := range tp.drain(s.names.Raw, a.partition) {
		a.model.Apply(r.Key, headers(r), r.Value)
	}
	for _, r := range tp.drain(s.names.Changes, a.partition) {
		if err := a.change(r); err != nil {
			return fmt.Errorf("%s/%d, offset %d: %w", s.names.Changes, a.partition, r.Offset, err)
		}
	}
	for _, r := range tp.drain(s.names.DLQ, a.partition) {
		d, err := event.ParseDeadLetter(headers(r))
		if err != nil {
			return fmt.Errorf("%s/%d, offset %d: %w", s.names.DLQ, a.partition, r.Offset, err)
		}
		if d.Partition != a.partition {
			return fmt.Errorf("%s/%d, offset %d: a dead letter of partition %d", s.names.DLQ, a.partition, r.Offset, d.Partition)
		}
		a.dlq[d.Offset] = true
	}
	return nil
}

func headers(r *kgo.Record) []event.Header {
	hs := make([]event.Header, len(r.Headers))
	for i, h := range r.Headers {
		hs[i] = event.Header{Key: []byte(h.Key), Value: h.Value}
	}
	return hs
}

func (a *audit) change(r *kgo.Record) error {
	c := &change{rec: r}
	var err error
	if c.op, err = event.ParseRecord(headers(r), &c.meta); err != nil {
		return err
	}
	verdict, group, err := a.rule.Read(c.op, &c.meta, c)
	if err != nil {
		return err
	}
	switch verdict {
	case rulev.Zombie, rulev.LateTerm:
		a.zombies++
	case rulev.NewTerm:
		a.terms++
	case rulev.Committed:
		for _, c := range group {
			if err := a.ledger.Take(c.op, &c.meta, c.rec.Key, c.rec.Value); err != nil {
				return err
			}
			if err := a.see(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// see keeps what a reader can see of a valid record.
func (a *audit) see(c *change) error {
	a.versions = append(a.versions, row{})
	m := &c.meta
	switch {
	case c.op == event.OpDeadLettered:
		a.dead[m.RawOffset] = true
	case c.op == event.OpCleared || c.op == event.OpPurged:
		control, err := event.ParseControl(c.rec.Value)
		if err != nil {
			return err
		}
		if control.Mode != event.ClearSoft {
			delete(a.rows, control.Stream.Key())
		}
	case c.op.IsChange():
		key, id, err := stream.SplitRecordKey(string(c.rec.Key))
		if err != nil {
			return err
		}
		payload, err := event.Payload(c.rec.Value, m)
		if err != nil {
			return err
		}
		canonical, err := shown(payload, id)
		if err != nil {
			return err
		}
		if a.rows[key] == nil {
			a.rows[key] = map[string]row{}
		}
		v := row{
			ID: id, Op: c.op.String(), CSN: m.CSN, Offset: c.rec.Offset, Partition: a.partition, Term: m.Term,
			FirstSeen: stamp(m.FirstSeen), Modified: stamp(m.TS), Payload: canonical,
		}
		a.rows[key][id] = v
		a.versions[len(a.versions)-1] = v
	}
	return nil
}

// shown is a payload as a page shows it, canonical: with the record's id as member id.
func shown(payload []byte, id string) (string, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(payload, &members); err != nil {
		return "", err
	}
	if have := ""; json.Unmarshal(members["id"], &have) != nil || have != id {
		members["id"] = mustJSON(id)
		payload = mustJSON(members)
	}
	return model.Canonical(payload, nil)
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

// settled compares. An error may mean that the processor is not done yet.
func (a *audit) settled() error {
	if err := model.Compare(a.model, a.ledger, true); err != nil {
		return err
	}
	for offset := range a.dead {
		if !a.dlq[offset] {
			return fmt.Errorf("raw offset %d is dead-lettered, but not on the dead-letter topic", offset)
		}
	}
	for offset := range a.dlq {
		if !a.dead[offset] {
			return fmt.Errorf("raw offset %d is on the dead-letter topic, but the log does not say so", offset)
		}
	}
	return nil
}

// auditor audits a site.
type auditor struct {
	t     testing.TB
	s     *site
	tapes *tapes
	parts []*audit
}

func newAuditor(s *site, tp *tapes) *auditor {
	a := &auditor{t: s.t, s: s, tapes: tp}
	for p := range s.partitions {
		a.parts = append(a.parts, newAudit(p, s.partitions))
	}
	return a
}

// settle waits until everything that was sent has come to what it must. The feed must be paused.
func (a *auditor) settle() {
	a.t.Helper()
	deadline := time.Now().Add(startWait)
	for {
		var errs []error
		for _, p := range a.parts {
			if err := p.take(a.s, a.tapes); err != nil {
				a.t.Fatal(err)
			}
			if err := p.settled(); err != nil {
				errs = append(errs, fmt.Errorf("partition %d: %w", p.partition, err))
			}
		}
		if len(errs) == 0 {
			return
		}
		if time.Now().After(deadline) {
			a.t.Fatalf("after %s the changes are not what they must be:\n%v", startWait, errors.Join(errs...))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// checkRaw holds the raw topic against what was sent. The feed must be paused.
func (a *auditor) checkRaw(f *feed) {
	a.t.Helper()
	for p, part := range f.parts {
		if f.refusals {
			a.checkPlaces(part)
			continue
		}
		sent, acked := part.counts()
		if sent != acked {
			a.t.Errorf("partition %d: %d events sent, %d acknowledged", p, sent, acked)
		}
		a.tapes.mu.Lock()
		sums := a.tapes.of[a.s.names.Raw][p].sums
		a.tapes.mu.Unlock()
		if len(sums) != sent {
			a.t.Errorf("partition %d: %d events sent, %d on the raw topic", p, sent, len(sums))
		}
		for offset, have := range sums {
			if want, ok := part.sumAt(int64(offset)); !ok || want != have {
				a.t.Fatalf("partition %d: the raw topic has another event at offset %d than was sent", p, offset)
			}
		}
	}
}

// checkPlaces looks for every acknowledged event where it was acknowledged.
func (a *auditor) checkPlaces(part *partFeed) {
	a.t.Helper()
	a.tapes.mu.Lock()
	defer a.tapes.mu.Unlock()
	part.mu.Lock()
	defer part.mu.Unlock()
	sums := a.tapes.of[a.s.names.Raw][part.partition].sums
	for offset, want := range part.places {
		if offset >= int64(len(sums)) || sums[offset] != want {
			a.t.Fatalf("partition %d: the event that was acknowledged at offset %d is not there", part.partition, offset)
		}
	}
}

// rowsOf are the rows of a stream.
func (a *auditor) rowsOf(id stream.ID) map[string]row {
	key := id.Key()
	return a.parts[stream.Partition(key, a.s.partitions)].rows[key]
}

// String is one line about what the log went through.
func (a *auditor) String() string {
	raw, changes, zombies, terms, dead := int64(0), 0, 0, 0, 0
	for _, p := range a.parts {
		raw += a.tapes.end(a.s.names.Raw, p.partition)
		changes, zombies, terms, dead = changes+len(p.versions), zombies+p.zombies, terms+p.terms, dead+len(p.dead)
	}
	return strconv.FormatInt(raw, 10) + " raw events, " + strconv.Itoa(changes) + " valid records, " + strconv.Itoa(zombies) +
		" invalid ones, " + strconv.Itoa(terms) + " terms, " + strconv.Itoa(dead) + " dead letters"
}

// audited holds the site against the model, read from the start, and returns the rows of the streams.
func (s *site) audited(ids []stream.ID) map[stream.ID]map[string]row {
	s.t.Helper()
	tp := newTapes(s)
	stop := tp.record(s.partitions)
	defer stop()
	tp.awaitRead(s)
	a := newAuditor(s, tp)
	a.settle()
	r := newReaders(s, ids, rand.New(rand.NewPCG(1, 1)))
	r.check(a, 0)
	rows := map[stream.ID]map[string]row{}
	for _, id := range ids {
		rows[id] = a.rowsOf(id)
	}
	return rows
}
