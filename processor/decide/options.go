package decide

import (
	"fmt"
	"slices"

	"github.com/tidemark-dev/tidemark/processor/detect"
	"github.com/tidemark-dev/tidemark/processor/hot"
	"github.com/tidemark-dev/tidemark/schemas/event"
)

// A change of the list of ignored members is a change of what a hash means. Announcing every record as UPDATED for it would be noise,
// so the log says from which csn on the options hold (MODEL_OPTIONS), and a version from before is compared by its payload, not by its
// hash: the stored payload is hashed under the options of now. The hash that was announced stays, in R and in the digest of the
// stream, until the record really changes.
//
// That MODEL_OPTIONS is in the log in front of the first decision under new options, and not taken from the configuration, makes the
// decisions a function of the log: whoever comes later knows what each raw event was compared under.

// ignoredBytesMax bounds the list that is told in MODEL_OPTIONS and kept with the stream. Of a longer one the fingerprint alone is: a
// follower that has to work field hashes out from payloads then leaves them out, and changed members are not named.
const ignoredBytesMax = 8 << 10

// tellOptions makes sure that the log names the options under which the next save of the stream is compared.
func (d *Decider) tellOptions(t *tip, rawOffset int64) error {
	det, err := d.detector(t)
	if err != nil {
		return err
	}
	t.told = true
	c := &event.Control{Op: event.OpModelOptions}
	if len(t.model.Ignore) > 0 {
		c.Fingerprint = max(1, det.Fingerprint())
		c.Ignored = ignored(t.model.Ignore)
	}
	if c.Fingerprint != t.s.Options {
		d.control(t, rawOffset, 0, c)
	}
	return nil
}

func ignored(pointers []string) []string {
	size := 0
	for _, p := range pointers {
		size += len(p)
	}
	if size > ignoredBytesMax {
		return nil
	}
	pointers = slices.Clone(pointers)
	slices.Sort(pointers)
	return slices.Compact(pointers)
}

// outdated reports whether the hash of a version says nothing about what the record means now.
func (t *tip) outdated(prev *previous) bool {
	return prev.live && prev.CSN < t.s.OptionsCSN && !prev.Rehashed
}

// rehash compares a payload with a version that was hashed under other options: both are hashed under those of now. res is the scan of
// payload, and stays valid. If they differ, prev has the fields of now. If they do not, the hot entry has the hash of now, so that the
// next save need not read the payload. Of a version whose payload is pruned nothing is left to compare but the hash: other options
// then make it look changed, once, and nobody can tell which members differ.
func (d *Decider) rehash(t *tip, det *detect.Detector, fp hot.Fingerprint, payload []byte, raw uint64, prev *previous, res *detect.Result) (same bool, err error) {
	if d.cfg.Breaks.NoRehash {
		return prev.Hash == res.Hash, nil
	}
	stored, ok, err := d.stored(t, prev)
	if err != nil {
		return false, err
	}
	if !ok {
		prev.names, prev.Shape, prev.Fields = nil, 0, nil
		return prev.Hash == res.Hash, nil
	}
	hash := res.Hash
	now, err := det.Scan(stored)
	if err != nil { // these bytes were accepted once
		return false, fmt.Errorf("%w: hashing a stored payload again: %w", errInternal, err)
	}
	e := prev.Entry
	e.Hash, e.Raw, e.Rehashed = now.Hash, raw, true
	e.Shape, e.Fields, prev.names = 0, nil, nil
	if !t.model.NoChanged && len(now.Fields) <= FieldsMax {
		prev.names = make([]string, len(now.Names))
		for i, name := range now.Names {
			prev.names[i] = string(name)
		}
		e.Shape, e.Fields = now.Shape, slices.Clone(now.Fields)
	}
	if now.Hash == hash {
		known := e.Shape == 0 || t.names[e.Shape] != nil || t.remember(e.Shape, prev.names)
		if prev.flying == nil && known {
			t.table.Put(fp, &e)
		}
		return true, nil
	}
	prev.Fields = e.Fields
	*res, err = det.Scan(payload) // the scan before used the same memory
	return false, err
}

// stored returns the payload of a version; ok is false if it is pruned, as far as has been decided.
func (d *Decider) stored(t *tip, prev *previous) ([]byte, bool, error) {
	if prev.PayloadCSN <= max(d.floor, t.s.PrunedUntil) {
		return nil, false, nil
	}
	return d.payload(t, prev)
}

// announced gives a version that was hashed again back the hash that it was announced with. It keeps the fields of now.
func (d *Decider) announced(t *tip, id []byte, fp hot.Fingerprint, prev previous) (previous, error) {
	names, fields := prev.names, slices.Clone(prev.Fields) // the look-up uses the memory that they are in
	prev, err := d.lookup(t, id, fp, false, 0)
	prev.names, prev.Fields = names, fields
	return prev, err
}
