package decide

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tidemark-dev/tidemark/processor/detect"
	"github.com/tidemark-dev/tidemark/processor/hot"
	"github.com/tidemark-dev/tidemark/processor/store"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
)

// record decides a save, update or delete.
func (d *Decider) record(t *tip, w *window, ev *Event, r *event.Raw) error {
	if w != nil {
		w.events++
	}
	if !t.told && r.Type != event.RawDelete {
		if err := d.tellOptions(t, ev.Offset); err != nil {
			return err
		}
	}
	fp := hot.FingerprintOf(r.ID)
	if len(r.Value) > d.cfg.RecordBytesMax {
		prev, err := d.lookup(t, r.ID, fp, false, 0)
		if err != nil {
			return err
		}
		return d.refuse(t, w, ev, r, &prev, &event.RawError{Code: errcode.RawTooLarge, Detail: fmt.Sprintf(
			"the payload has %d bytes, at most %d are allowed", len(r.Value), d.cfg.RecordBytesMax)})
	}
	switch r.Type {
	case event.RawDelete:
		return d.delete(t, w, ev, r, fp)
	case event.RawUpdate:
		return d.update(t, w, ev, r, fp)
	}
	raw := detect.Raw64(r.Value)
	prev, err := d.lookup(t, r.ID, fp, true, raw)
	if err != nil {
		return err
	}
	return d.save(t, w, ev, r, fp, r.Value, raw, prev)
}

// skipped reports whether the merging strategy keeps the stored record: it has changed since the run looked.
func (d *Decider) skipped(t *tip, w *window, r *event.Raw, prev *previous) bool {
	if !r.HasCAS || !prev.exists || prev.CSN <= r.CAS {
		return false
	}
	d.counters.Skipped++
	if w != nil {
		w.skipped++
	}
	t.mark(prev) // the source has it, whichever version won
	return true
}

// save compares a whole record with its previous version. Step one compares the bytes; step two, only if they differ, what they mean.
func (d *Decider) save(t *tip, w *window, ev *Event, r *event.Raw, fp hot.Fingerprint, payload []byte, raw uint64, prev previous) error {
	if d.skipped(t, w, r, &prev) {
		return nil
	}
	if prev.live && prev.Raw == raw && !t.sweepsAny(&prev, d) {
		return d.unchanged(t, ev, r, fp, payload, raw, prev)
	}
	det, err := d.detector(t)
	if err != nil {
		return err
	}
	res, err := det.Scan(payload)
	if err != nil {
		return d.refuse(t, w, ev, r, &prev, badPayload(err))
	}
	if !prev.looked { // the table stopped at "same bytes", but the record is to be swept
		if prev, err = d.lookup(t, r.ID, fp, false, 0); err != nil {
			return err
		}
	}
	same := prev.live && prev.Hash == res.Hash
	if t.outdated(&prev) && !(same && d.cfg.Breaks.HashAlone) && !t.sweepsAny(&prev, d) {
		if same, err = d.rehash(t, det, fp, payload, raw, &prev, &res); err != nil {
			return err
		}
	}
	if same && !t.sweepsAny(&prev, d) {
		if prev.flying != nil {
			prev.flying.entry.Raw = raw
		} else {
			t.table.SetRaw(fp, prev.CSN, raw)
		}
		return d.unchanged(t, ev, r, fp, payload, raw, prev)
	}
	if prev.Rehashed {
		if prev, err = d.announced(t, r.ID, fp, prev); err != nil {
			return err
		}
	}
	if prev, err = d.sweepFirst(t, r.ID, fp, prev); err != nil {
		return err
	}
	return d.write(t, ev.Offset, r, fp, payload, raw, &res, prev)
}

// refuse dead-letters an event whose record is known. The record still counts as seen: the source has it, only its new state cannot
// be stored, and that must never delete the old one (I9).
func (d *Decider) refuse(t *tip, w *window, ev *Event, r *event.Raw, prev *previous, cause error) error {
	t.mark(prev)
	if w != nil {
		w.refused++
	}
	return d.deadLetter(t, ev, r.Run, cause)
}

func badPayload(err error) error {
	return &event.RawError{Code: errcode.RawInvalidPayload, Detail: err.Error()}
}

// unchanged marks the record as seen and emits nothing, but for a payload that had been pruned, which comes back without a change.
func (d *Decider) unchanged(t *tip, ev *Event, r *event.Raw, fp hot.Fingerprint, payload []byte, raw uint64, prev previous) error {
	d.counters.Unchanged++
	t.mark(&prev)
	if prev.PayloadCSN > max(d.floor, t.s.PrunedUntil) || t.model.NoRestore {
		return nil
	}
	if !prev.looked || prev.Rehashed {
		var err error
		if prev, err = d.lookup(t, r.ID, fp, false, 0); err != nil {
			return err
		}
		if prev.PayloadCSN > max(d.floor, t.s.PrunedUntil) {
			return nil
		}
	}
	det, err := d.detector(t)
	if err != nil {
		return err
	}
	res, err := det.Scan(payload)
	if err != nil { // these bytes were accepted once
		return fmt.Errorf("%w: restoring a payload: %w", errInternal, err)
	}
	return d.restore(t, ev.Offset, r, fp, payload, raw, &res, prev)
}

// update merges a partial record into the stored one.
func (d *Decider) update(t *tip, w *window, ev *Event, r *event.Raw, fp hot.Fingerprint) error {
	prev, err := d.lookup(t, r.ID, fp, false, 0)
	if err != nil {
		return err
	}
	if !prev.live || t.sweepsAny(&prev, d) {
		d.notFound(w)
		return nil
	}
	if d.skipped(t, w, r, &prev) {
		return nil
	}
	var remove []string
	if len(r.Remove) > 0 {
		if err := json.Unmarshal(r.Remove, &remove); err != nil {
			return d.refuse(t, w, ev, r, &prev, &event.RawError{Code: errcode.RawInvalidHeader, Detail: "header rm is not a JSON array of JSON Pointers"})
		}
	}
	stored, ok, err := d.stored(t, &prev)
	if err != nil {
		return err
	}
	if !ok {
		return d.refuse(t, w, ev, r, &prev, &event.RawError{Code: errcode.RawPayloadPruned, Detail: "there is nothing to merge the update into"})
	}
	prev.payload = stored
	merged, err := detect.Merge(stored, r.Value, remove)
	if err != nil {
		return d.refuse(t, w, ev, r, &prev, badPayload(err))
	}
	if len(merged) > d.cfg.RecordBytesMax {
		return d.refuse(t, w, ev, r, &prev, &event.RawError{Code: errcode.RawTooLarge, Detail: fmt.Sprintf(
			"the merged payload has %d bytes, at most %d are allowed", len(merged), d.cfg.RecordBytesMax)})
	}
	return d.save(t, w, ev, r, fp, merged, detect.Raw64(merged), prev)
}

func (d *Decider) delete(t *tip, w *window, ev *Event, r *event.Raw, fp hot.Fingerprint) error {
	prev, err := d.lookup(t, r.ID, fp, false, 0)
	if err != nil {
		return err
	}
	if !prev.live || t.sweepsAny(&prev, d) {
		d.notFound(w)
		return nil
	}
	if d.skipped(t, w, r, &prev) {
		return nil
	}
	return d.emitDelete(t, ev.Offset, r.Run, r.ID, fp, prev, r.Schema)
}

func (d *Decider) notFound(w *window) {
	d.counters.NotFound++
	if w != nil {
		w.notFound++
	}
}

// payload returns the stored payload of a version; ok is false if it has been pruned.
func (d *Decider) payload(t *tip, prev *previous) ([]byte, bool, error) {
	if prev.payload != nil {
		return prev.payload, true, nil
	}
	return d.state.Payload(t.s.SID, prev.PayloadCSN)
}

// recordMeta fills the record section that all changes share. A previous version at or above the csn to be written means that another
// writer has the partition: our follower has already applied what it wrote, and we have not yet heard that we lost. What we would write
// could never be valid, and its meta could not even be read, so the term ends here.
func (d *Decider) recordMeta(t *tip, rawOffset int64, run uint64, prev *previous) (event.Meta, error) {
	m := d.meta(t, rawOffset, run)
	m.Record, m.Algo = true, event.AlgoXXH3
	m.PrevCSN = 0
	if prev.exists {
		m.PrevCSN = prev.CSN
	}
	if m.PrevCSN >= m.CSN {
		return m, fmt.Errorf("%w: version %d of a record is above csn %d, which comes next", errOvertaken, m.PrevCSN, m.CSN)
	}
	m.Live, m.Digest = t.s.Live, t.s.Digest
	return m, nil
}

// write emits ADDED or UPDATED (I4).
func (d *Decider) write(t *tip, rawOffset int64, r *event.Raw, fp hot.Fingerprint, payload []byte, raw uint64, res *detect.Result, prev previous) error {
	g := d.open()
	m, err := d.recordMeta(t, rawOffset, r.Run, &prev)
	if err != nil {
		return err
	}
	m.Hash, m.Rev = res.Hash, prev.Rev+1
	digest := store.Digest(m.Digest)
	x := Extra{Schema: g.keep(r.Schema)}
	op := event.OpAdded
	if prev.live {
		op = event.OpUpdated
		m.FirstSeen = prev.FirstSeen
		digest = digest.Sub(store.DigestOf(r.ID, &prev.Hash))
		if !t.model.NoChanged {
			x.Changed, x.ChangedKnown = detect.Changed(prev.names, prev.Fields, *res)
			x.ChangedKnown = x.ChangedKnown && len(x.Changed) > 0 // 24 bits of a field hash may hide the one that differs
		}
		if t.model.Before == BeforeFull {
			before, ok, err := d.payload(t, &prev)
			if err != nil {
				return err
			}
			if ok {
				x.Before = g.keep(before)
			}
		}
	} else {
		m.FirstSeen = m.TS
		m.Live++
	}
	m.Digest = digest.Add(store.DigestOf(r.ID, &m.Hash))
	rec := store.Record{
		Op: op, Meta: m, Stream: t.s.Key.Stream, Key: t.s.Key, ID: g.keep(r.ID), Payload: g.keep(payload), Raw: raw,
	}
	d.fields(t, &rec, res)
	d.fly(t, fp, &rec, m.CSN)
	d.add(t, rec, x)
	return nil
}

// restore emits RESTORED: the payload of a pruned record, under a csn of its own; the record itself stays where it is.
func (d *Decider) restore(t *tip, rawOffset int64, r *event.Raw, fp hot.Fingerprint, payload []byte, raw uint64, res *detect.Result, prev previous) error {
	g := d.open()
	m, err := d.recordMeta(t, rawOffset, r.Run, &prev)
	if err != nil {
		return err
	}
	m.Hash, m.Rev, m.FirstSeen = prev.Hash, prev.Rev, prev.FirstSeen
	rec := store.Record{
		Op: event.OpRestored, Meta: m, Stream: t.s.Key.Stream, Key: t.s.Key, ID: g.keep(r.ID), Payload: g.keep(payload), Raw: raw,
	}
	d.fields(t, &rec, res)
	d.fly(t, fp, &rec, prev.CSN)
	d.add(t, rec, Extra{Schema: g.keep(r.Schema)})
	return nil
}

// emitDelete emits DELETED with the last payload.
func (d *Decider) emitDelete(t *tip, rawOffset int64, run uint64, id []byte, fp hot.Fingerprint, prev previous, schema []byte) error {
	payload, ok, err := d.payload(t, &prev)
	if err != nil {
		return err
	}
	if !ok {
		payload = nil
	}
	g := d.open()
	m, err := d.recordMeta(t, rawOffset, run, &prev)
	if err != nil {
		return err
	}
	m.Hash, m.Rev, m.FirstSeen = prev.Hash, prev.Rev+1, prev.FirstSeen
	m.Live--
	m.Digest = store.Digest(m.Digest).Sub(store.DigestOf(id, &prev.Hash))
	rec := store.Record{
		Op: event.OpDeleted, Meta: m, Stream: t.s.Key.Stream, Key: t.s.Key, ID: g.keep(id), Payload: g.keep(payload),
	}
	d.fly(t, fp, &rec, m.CSN)
	d.add(t, rec, Extra{Schema: g.keep(schema)})
	return nil
}

// fields notes the field hashes of a payload, for the names of changed members next time.
func (d *Decider) fields(t *tip, rec *store.Record, res *detect.Result) {
	if t.model.NoChanged || len(res.Fields) == 0 || len(res.Fields) > FieldsMax {
		return
	}
	if t.names[res.Shape] == nil && d.shapeNames(t, res.Shape) == nil {
		names := make([]string, len(res.Names))
		for i, n := range res.Names {
			names[i] = string(n)
		}
		if !t.remember(res.Shape, names) {
			return
		}
	}
	// The names travel with every group until the state has them: an earlier group that carried them may not have made it.
	if d.state.ShapeNames(t.s.SID, res.Shape) == nil {
		rec.Names = t.names[res.Shape]
	}
	rec.Shape = res.Shape
	rec.Fields = d.open().keepFields(res.Fields)
}

// FieldsMax bounds the members whose hashes are kept; records with more are compared, but their changed members are not named.
const FieldsMax = 1024

// fly puts a change into the overlay. csn is that of the record after it.
func (d *Decider) fly(t *tip, fp hot.Fingerprint, rec *store.Record, csn uint64) {
	g := d.open()
	v := g.newVersion()
	*v = version{
		tip: t, generation: t.generation, fp: fp, id: string(rec.ID), op: rec.Op, payload: rec.Payload, names: t.names[rec.Shape],
		entry: hot.Entry{
			CSN: csn, PayloadCSN: rec.Meta.CSN, FirstSeen: rec.Meta.FirstSeen, Rev: rec.Meta.Rev, Hash: rec.Meta.Hash, Raw: rec.Raw,
			Deleted: rec.Op == event.OpDeleted, Shape: rec.Shape, Fields: rec.Fields,
		},
	}
	g.versions = append(g.versions, v)
	t.overlay[v.id] = v
}

var (
	// errInternal marks broken invariants: the term ends, and the next one starts from the log.
	errInternal  = errors.New("internal")
	errOvertaken = errors.New("another writer has overtaken this one")
)
