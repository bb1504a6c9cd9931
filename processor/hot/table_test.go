package hot

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
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
					tab.SetRaw(fp, e.Raw)
				}
			case 3, 4, 5, 6, 7, 8:
				e := Entry{
					CSN: uint64(step + 1), PayloadCSN: uint64(step + 1), FirstSeen: int64(step), Rev: uint64(rng.IntN(9)), Raw: uint64(rng.IntN(4)),
					Deleted: rng.IntN(5) == 0, Hash: [16]byte{byte(step), byte(step >> 8)},
				}
				if n := rng.IntN(12); n > 0 {
					e.Shape = uint32(n)
					for i := range n {
						e.Fields = append(e.Fields, uint32(i+step)&0xffffff|1)
					}
				}
				if rng.IntN(50) == 0 {
					e.PayloadCSN++ // restored: the table does not keep such
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
				case r == Unchanged && !tab.Lean() && e.CSN != want.CSN, r == Unchanged && tab.Lean() && tab.LeanCSN(fp) != want.CSN:
					t.Fatalf("seed %d, step %d: %s has the wrong csn", seed, step, id)
				case r == Known && (e.CSN != want.CSN || e.Hash != want.Hash || e.FirstSeen != want.FirstSeen || e.Rev != want.Rev ||
					e.Raw != want.Raw || e.Deleted != want.Deleted || e.Shape != 0 && (e.Shape != want.Shape || !slices.Equal(e.Fields, want.Fields))):
					t.Fatalf("seed %d, step %d: %s is %+v, but is %+v", seed, step, id, e, want)
				}
				if r == Known {
					known++
				}
				if l := tab.Lookup(fp, &e); l == Absent && exists {
					t.Fatalf("seed %d, step %d: look-up says %s is absent", seed, step, id)
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

// TestTable_SizeOfAnEntry pins what the memory budget is made of: one cache line in full form, three words in lean form.
func TestTable_SizeOfAnEntry(t *testing.T) {
	for name, c := range map[string]struct {
		lean bool
		most float64
	}{"full": {false, 64 / 0.8 * 2}, "lean": {true, 24 / 0.8 * 2}} {
		tab := NewTable(NewBudget(1<<30), true)
		if c.lean {
			tab.MakeLean()
		}
		const n = 100_000
		for i := range n {
			tab.Put(FingerprintOf(fmt.Append(nil, i)), &Entry{CSN: uint64(i + 1), PayloadCSN: uint64(i + 1)})
		}
		if per := float64(tab.Bytes()) / n; per > c.most || tab.Len() != n {
			t.Errorf("%s: %.1f bytes a record, %d records", name, per, tab.Len())
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
