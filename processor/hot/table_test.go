package hot

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

// TestTable_NeverLies drives tables against a map, through growth, lean form, budgets that run out and forgotten records. A table may
// always say Unknown; whatever else it says must be true.
func TestTable_NeverLies(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 4))
		budget := NewBudget(int64(rng.IntN(200_000)))
		tab := NewTable(budget, true)
		truth := map[string]Entry{}
		known := 0
		for step := range 3000 {
			id := fmt.Sprint("id", rng.IntN(600))
			fp := FingerprintOf([]byte(id))
			switch rng.IntN(20) {
			case 0:
				tab.Forget(fp)
			case 1:
				if step > 1500 && rng.IntN(100) == 0 {
					tab.MakeLean()
				}
			case 2:
				if e, ok := truth[id]; ok {
					e.Raw = rng.Uint64()
					truth[id] = e
					tab.SetRaw(fp, e.CSN, e.Raw)
				} else {
					tab.SetRaw(fp, 1, rng.Uint64())
				}
			case 3, 4, 5, 6, 7, 8:
				e := Entry{
					CSN: uint64(step + 1), PayloadCSN: uint64(step + 1), FirstSeen: int64(step), Rev: uint64(rng.IntN(9)), Raw: uint64(rng.IntN(4)),
					Deleted: rng.IntN(5) == 0, Hash: [16]byte{byte(step), byte(step >> 8)}, Rehashed: rng.IntN(9) == 0,
				}
				if n := rng.IntN(12); n > 0 {
					if rng.IntN(50) == 0 {
						n *= 20 // more than most, or than are kept at all
					}
					e.Shape = uint32(n)
					for i := range n {
						e.Fields = append(e.Fields, uint32(i+step)&0xffffff|1)
					}
				}
				if rng.IntN(50) == 0 {
					e.PayloadCSN += uint64(rng.IntN(9)) // restored
				}
				truth[id] = e
				tab.Put(fp, &e)
			default:
				want, exists := truth[id]
				raw := uint64(rng.IntN(4))
				if exists && rng.IntN(2) == 0 {
					raw = want.Raw
				}
				var e Entry
				r := tab.Probe(fp, raw, &e)
				switch {
				case r == Absent && exists:
					t.Fatalf("seed %d, step %d: %s is absent, but is %+v", seed, step, id, want)
				case r == Unchanged && (!exists || want.Deleted || want.Raw != raw):
					t.Fatalf("seed %d, step %d: %s is unchanged with %d, but is %+v", seed, step, id, raw, want)
				case r == Unchanged && (e.CSN != want.CSN || e.PayloadCSN != want.PayloadCSN):
					t.Fatalf("seed %d, step %d: %s is unchanged at %d and %d, but is %+v", seed, step, id, e.CSN, e.PayloadCSN, want)
				case r == Known && (e.CSN != want.CSN || e.PayloadCSN != want.PayloadCSN || e.Hash != want.Hash || e.FirstSeen != want.FirstSeen || e.Rev != want.Rev ||
					e.Raw != want.Raw || e.Deleted != want.Deleted || e.Rehashed != want.Rehashed || e.Shape != want.Shape || !slices.Equal(e.Fields, want.Fields)):
					t.Fatalf("seed %d, step %d: %s is %+v, but is %+v", seed, step, id, e, want)
				}
				if r == Known {
					known++
				}
				switch l := tab.Lookup(fp, &e); {
				case l == Absent && exists:
					t.Fatalf("seed %d, step %d: look-up says %s is absent", seed, step, id)
				case l == Known && want.Rehashed:
					t.Fatalf("seed %d, step %d: look-up takes the hash of %s for the announced one", seed, step, id)
				}
			}
			if budget.Used() > budget.Max() || tab.Bytes() != budget.Used() {
				t.Fatalf("seed %d, step %d: %d bytes held, %d counted, %d allowed", seed, step, tab.Bytes(), budget.Used(), budget.Max())
			}
		}
		if seed%50 == 0 && known == 0 && budget.Max() > 150_000 {
			t.Fatalf("seed %d: the table never knew anything", seed)
		}
		tab.Drop()
		if budget.Used() != 0 {
			t.Fatalf("seed %d: %d bytes are not given back", seed, budget.Used())
		}
	}
}

// TestTable_KnowsWhatItHolds: with memory to spare, a table that was given everything answers everything, but for what does not fit
// into an entry.
func TestTable_KnowsWhatItHolds(t *testing.T) {
	for _, n := range []int{1, 7, 8, 9, chunkLen - 1, chunkLen, chunkLen + 1, 5000} {
		for _, reserve := range []bool{false, true} {
			tab := NewTable(NewBudget(1<<30), true)
			if reserve && !tab.Reserve(uint64(n)) {
				t.Fatalf("no room for %d records", n)
			}
			held := tab.Bytes()
			of := func(i int) (Fingerprint, Entry) {
				e := Entry{
					CSN: uint64(i + 1), PayloadCSN: uint64(i + 1 + i%3), FirstSeen: int64(i), Rev: uint64(i), Hash: [16]byte{byte(i)}, Raw: uint64(i),
					Shape: uint32(i%300 + 1), Deleted: i%5 == 4,
				}
				for f := range 19 - i%20 {
					e.Fields = append(e.Fields, uint32(f+1))
				}
				return FingerprintOf(fmt.Append(nil, i)), e
			}
			for i := range n {
				fp, e := of(i)
				tab.Put(fp, &e)
			}
			if tab.Len() != n || !tab.Complete() || tab.Lean() {
				t.Fatalf("%d records of %d, complete %v, lean %v", tab.Len(), n, tab.Complete(), tab.Lean())
			}
			if more := tab.Bytes() - held - int64(len(tab.moved)*movedBytes) - int64(tab.room*tab.stride*fieldBytes); reserve && more != 0 {
				t.Errorf("%d records: %d bytes more than reserved", n, more)
			}
			var got Entry
			for i := range n {
				fp, want := of(i)
				if r := tab.Lookup(fp, &got); r != Known || got.CSN != want.CSN || got.PayloadCSN != want.PayloadCSN || got.Shape != want.Shape ||
					!slices.Equal(got.Fields, want.Fields) || got.Rev != want.Rev || got.FirstSeen != want.FirstSeen {
					t.Fatalf("%d: %d, %+v, want %+v", i, r, got, want)
				}
			}
			tab.MakeLean()
			for i := range n {
				fp, want := of(i)
				r := tab.Probe(fp, want.Raw, &got)
				if want.Deleted != (r == Unknown) || !want.Deleted && (r != Unchanged || got.CSN != want.CSN || got.PayloadCSN != want.PayloadCSN) {
					t.Fatalf("lean, %d: %d, %+v, want %+v", i, r, got, want)
				}
				if r := tab.Probe(fp, want.Raw+1, &got); r != Unknown {
					t.Fatalf("lean, %d with other bytes: %d", i, r)
				}
			}
			if r := tab.Probe(FingerprintOf([]byte("another")), 0, &got); r != Absent {
				t.Fatalf("a record that is not there: %d", r)
			}
		}
	}
}

func TestTable_DoesNotKeepWhatDoesNotFit(t *testing.T) {
	fp := FingerprintOf([]byte("a"))
	for name, e := range map[string]Entry{
		"csn":        {CSN: 1 << 48, PayloadCSN: 1 << 48},
		"revision":   {CSN: 1, PayloadCSN: 1, Rev: 1 << 32},
		"first seen": {CSN: 1, PayloadCSN: 1, FirstSeen: 1 << 48},
		"before":     {CSN: 1, PayloadCSN: 1, FirstSeen: -1},
	} {
		tab := NewTable(NewBudget(1<<20), true)
		tab.Put(fp, &e)
		var got Entry
		if r := tab.Probe(fp, e.Raw, &got); r != Unknown {
			t.Errorf("%s: %d", name, r)
		}
		if r := tab.Lookup(fp, &got); r != Unknown {
			t.Errorf("%s: looked up: %d", name, r)
		}
		tab.Put(fp, &Entry{CSN: 2, PayloadCSN: 2})
		if r := tab.Lookup(fp, &got); r != Known || !tab.Complete() {
			t.Errorf("%s: after a version that fits: %d", name, r)
		}
	}
}

// TestTable_FieldsThatAreNotKept: names of changed fields are known or R is asked, however many fields and however little memory.
func TestTable_FieldsThatAreNotKept(t *testing.T) {
	entry := func(fields int) *Entry {
		return &Entry{CSN: 1, PayloadCSN: 1, Raw: 7, Shape: 1, Fields: make([]uint32, fields)}
	}
	fp := FingerprintOf([]byte("a"))
	check := func(what string, tab *Table) {
		t.Helper()
		var got Entry
		if r := tab.Probe(fp, 7, &got); r != Unchanged {
			t.Errorf("%s: the same bytes: %d", what, r)
		}
		if r := tab.Probe(fp, 8, &got); r != Unknown {
			t.Errorf("%s: other bytes: %d", what, r)
		}
		if r := tab.Lookup(fp, &got); r != Unknown {
			t.Errorf("%s: looked up: %d", what, r)
		}
	}
	tab := NewTable(NewBudget(1<<20), true)
	tab.Put(fp, entry(fieldsMax+1))
	check("more than are ever kept", tab)

	tab = NewTable(NewBudget(1<<20), true)
	for i := range 1000 {
		tab.Put(FingerprintOf(fmt.Append(nil, i)), entry(10))
	}
	held := tab.Bytes()
	tab.Put(fp, entry(50))
	check("more than the others have", tab)
	if tab.Bytes() > held+10_000 {
		t.Errorf("one wide record took %d bytes", tab.Bytes()-held)
	}
	for i := range 200 {
		tab.Put(FingerprintOf(fmt.Append(nil, i)), entry(50))
	}
	var got Entry
	if r := tab.Probe(FingerprintOf([]byte("199")), 8, &got); r != Known || len(got.Fields) != 0 && len(got.Fields) != 50 {
		t.Errorf("many have so many fields: %d, %d", r, len(got.Fields))
	}

	tab = NewTable(NewBudget(600), true)
	tab.Put(fp, entry(60))
	check("no memory for fields", tab)
	if !tab.Lean() {
		t.Errorf("the table is not lean: %d bytes", tab.Bytes())
	}
}

// TestTable_LeanTwins: of two records whose fingerprints agree in what lean entries keep, neither may be answered with what belongs to
// the other.
func TestTable_LeanTwins(t *testing.T) {
	a, b := Fingerprint{1, 42}, Fingerprint{2, 42}
	for _, before := range []bool{false, true} {
		tab := NewTable(NewBudget(1<<20), true)
		if before {
			tab.MakeLean()
		}
		tab.Put(a, &Entry{CSN: 1, PayloadCSN: 1, Raw: 10})
		tab.Put(b, &Entry{CSN: 2, PayloadCSN: 2, Raw: 20})
		tab.MakeLean()
		tab.SetRaw(a, 1, 11)
		tab.SetRaw(b, 2, 21)
		for raw := range uint64(30) {
			var e Entry
			r := tab.Probe(a, raw, &e)
			if r == Absent || r == Known || r == Unchanged && !(e.CSN == 1 && raw == 11 || e.CSN == 2 && raw == 21) {
				t.Errorf("bytes %d: %d, csn %d", raw, r, e.CSN)
			}
		}
	}
}

// TestTable_Twins: full entries tell records apart whose fingerprints agree in one half.
func TestTable_Twins(t *testing.T) {
	for _, b := range []Fingerprint{{2, 42}, {1, 43}} {
		tab, a := NewTable(NewBudget(1<<20), true), Fingerprint{1, 42}
		tab.Put(a, &Entry{CSN: 1, PayloadCSN: 1, Raw: 10})
		var e Entry
		if r := tab.Lookup(b, &e); r != Absent {
			t.Errorf("%v is not there: %d", b, r)
		}
		tab.Put(b, &Entry{CSN: 2, PayloadCSN: 2, Raw: 20})
		if r := tab.Lookup(a, &e); r != Known || e.CSN != 1 {
			t.Errorf("%v: %d, csn %d", a, r, e.CSN)
		}
		if r := tab.Lookup(b, &e); r != Known || e.CSN != 2 {
			t.Errorf("%v: %d, csn %d", b, r, e.CSN)
		}
	}
}

// TestTable_NeverCompleteWithHoles: a scan that brought more than there is room for does not make the table complete.
func TestTable_NeverCompleteWithHoles(t *testing.T) {
	tab := NewTable(NewBudget(10_000), false)
	const n = 1000
	for i := range n {
		tab.Put(FingerprintOf(fmt.Append(nil, i)), &Entry{CSN: uint64(i + 1), PayloadCSN: uint64(i + 1)})
	}
	tab.SetComplete()
	var e Entry
	if r := tab.Probe(FingerprintOf(fmt.Append(nil, n-1)), 0, &e); r != Unknown || tab.Complete() {
		t.Errorf("a record that there was no room for: %d", r)
	}
	whole := NewTable(NewBudget(10_000), false)
	whole.Forget(FingerprintOf([]byte("a")))
	whole.SetComplete()
	if r := whole.Probe(FingerprintOf([]byte("a")), 0, &e); r != Unknown {
		t.Errorf("a record that was to be forgotten: %d", r)
	}
}

// TestTable_DoesNotLeak: what a record takes does not grow with its versions.
func TestTable_DoesNotLeak(t *testing.T) {
	budget := NewBudget(1 << 20)
	tab, fp := NewTable(budget, true), FingerprintOf([]byte("a"))
	for csn := range uint64(10_000) {
		tab.Put(fp, &Entry{CSN: csn, PayloadCSN: csn + csn%2, Shape: 1, Fields: make([]uint32, csn%8)})
	}
	if held := budget.Used(); held > 2000 || held != tab.Bytes() {
		t.Errorf("%d bytes are held, %d counted", held, tab.Bytes())
	}
}

func TestTable_ReservesLeanRatherThanNothing(t *testing.T) {
	const n = 10_000
	b := NewBudget(n * 50)
	tab := NewTable(b, false)
	if !tab.Reserve(n) || !tab.Lean() {
		t.Fatalf("lean %v, %d bytes", tab.Lean(), tab.Bytes())
	}
	if other := NewTable(b, false); other.Reserve(n) {
		t.Errorf("%d bytes are left, and there is room for %d records", b.Max()-b.Used(), n)
	}
}

// TestTable_SizeOfAnEntry pins what the memory budget is made of, over the sizes that a table has while it doubles.
func TestTable_SizeOfAnEntry(t *testing.T) {
	for name, c := range map[string]struct {
		lean       bool
		fields     int
		mean, most float64
	}{
		"full": {false, 0, 64, 67}, "full with fields": {false, 12, 100, 103}, "lean": {true, 0, 32, 35},
	} {
		tab := NewTable(NewBudget(1<<30), true)
		if c.lean {
			tab.MakeLean()
		}
		const from, to = 100_000, 200_000
		var sum, most float64
		e := Entry{Shape: 1, Fields: make([]uint32, c.fields)}
		for i := range to {
			e.CSN, e.PayloadCSN = uint64(i+1), uint64(i+1)
			tab.Put(FingerprintOf(fmt.Append(nil, i)), &e)
			if i >= from {
				per := float64(tab.Bytes()) / float64(tab.Len())
				sum += per
				most = max(most, per)
			}
		}
		if mean := sum / (to - from); mean > c.mean || most > c.most || tab.Len() != to {
			t.Errorf("%s: %.1f bytes a record, %.1f at most; %d records", name, mean, most, tab.Len())
		}
		if size := int(unsafe.Sizeof(full{})); size != fullBytes {
			t.Errorf("a full entry has %d bytes, counted as %d", size, fullBytes)
		}
		if size := int(unsafe.Sizeof(lean{})); size != leanBytes {
			t.Errorf("a lean entry has %d bytes, counted as %d", size, leanBytes)
		}
	}
}

func BenchmarkProbe(b *testing.B) {
	for _, lean := range []bool{false, true} {
		b.Run(fmt.Sprintf("lean=%v", lean), func(b *testing.B) {
			tab := NewTable(NewBudget(1<<30), true)
			const n = 1 << 20
			fps := make([]Fingerprint, n)
			for i := range fps {
				fps[i] = FingerprintOf(fmt.Append(nil, i))
				tab.Put(fps[i], &Entry{CSN: uint64(i + 1), PayloadCSN: uint64(i + 1), Raw: 7})
			}
			if lean {
				tab.MakeLean()
			}
			var e Entry
			b.ResetTimer()
			for i := range b.N {
				if tab.Probe(fps[i*7919%n], 7, &e) != Unchanged {
					b.Fatal("lost")
				}
			}
		})
	}
}
