package detect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// corpus makes distinct records of about size bytes (350 or 800) as a CRM would send them: compact, names in no
// particular order, nested objects, an array, now and then an escape or a word that is not ASCII. With optional, each
// member but the first two is missing from every tenth record. Benchmarks walk through all of them, because the
// processor would learn a single one by heart.
func corpus(size int, optional bool) [][]byte {
	r := rand.New(rand.NewPCG(1, uint64(size)))
	out := make([][]byte, 512)
	for k := range out {
		out[k] = record(r, size, optional)
	}
	return out
}

func record(r *rand.Rand, size int, optional bool) []byte {
	word := func() string {
		const letters = "etaoinshrdlcumwfgypbvk"
		b := make([]byte, 3+r.IntN(7))
		for i := range b {
			b[i] = letters[r.IntN(len(letters))]
		}
		return string(b)
	}
	words := func(n int) string {
		ws := make([]string, n)
		for i := range ws {
			ws[i] = word()
		}
		return strings.Join(ws, " ")
	}
	stamp := func() string {
		return fmt.Sprintf("2026-%02d-%02dT%02d:%02d:%02d.%03dZ", 1+r.IntN(12), 1+r.IntN(28), r.IntN(24), r.IntN(60), r.IntN(60), r.IntN(1000))
	}
	var b strings.Builder
	fmt.Fprintf(&b, `{"id":"%016x","object":"contact"`, r.Uint64())
	add := func(format string, args ...any) {
		if optional && r.IntN(10) == 0 {
			return
		}
		fmt.Fprintf(&b, ","+format, args...)
	}
	add(`"first_name":"%s"`, word())
	add(`"last_name":"%s"`, word())
	add(`"email":"%s@%s.example"`, word(), word())
	add(`"created_at":"%s"`, stamp())
	add(`"updated_at":"%s"`, stamp())
	add(`"owner":{"id":%d,"name":"%s","active":%t}`, r.IntN(1e6), words(2), r.IntN(2) == 0)
	add(`"status":"%s"`, word())
	add(`"score":%d`, r.IntN(100))
	add(`"tags":["%s","%s"]`, word(), word())
	add(`"city":"%s"`, words(2))
	if size > 400 {
		add(`"phone":"+49 %d %d"`, r.IntN(1000), r.IntN(1e7))
		add(`"company":"%s"`, words(2))
		add(`"website":"https://www.%s.example/%s"`, word(), word())
		add(`"amount":%d.%02d`, r.IntN(100000), r.IntN(100))
		add(`"currency":"EUR"`)
		add(`"archived":%t`, r.IntN(2) == 0)
		add(`"parent":null`)
		add(`"address":{"street":"%s %d","city":"%s","zip":"%05d","country":"DE"}`, word(), r.IntN(200), word(), r.IntN(100000))
		add(`"source":"%s"`, word())
		switch r.IntN(4) {
		case 0:
			add(`"note":"%s\n%s \"%s\""`, words(12), words(12), word())
		case 1:
			add(`"note":"%s é %s"`, words(12), words(12))
		default:
			add(`"note":"%s"`, words(25))
		}
		add(`"version":%d`, r.IntN(1000))
	}
	b.WriteString("}")
	return []byte(b.String())
}

// bench runs f over four corpora. prepare, which is not timed, makes what f gets from each record.
func bench[T any](b *testing.B, prepare func(p []byte) T, f func(b *testing.B, in T)) {
	for _, size := range []int{350, 800} {
		for _, optional := range []bool{false, true} {
			name := fmt.Sprintf("%dB", size)
			if optional {
				name += "-optional"
			}
			b.Run(name, func(b *testing.B) {
				var in []T
				bytes := 0
				for _, p := range corpus(size, optional) {
					in = append(in, prepare(p))
					bytes += len(p)
				}
				b.SetBytes(int64(bytes / len(in)))
				b.ReportAllocs()
				for k := 0; b.Loop(); k++ {
					f(b, in[k%len(in)])
				}
			})
		}
	}
}

func asItIs(p []byte) []byte { return p }

func benchScan(b *testing.B, d *Detector, prepare func(p []byte) []byte) {
	bench(b, prepare, func(b *testing.B, p []byte) {
		if _, err := d.Scan(p); err != nil {
			b.Fatal(err)
		}
	})
}

func BenchmarkScan(b *testing.B) { benchScan(b, scanner(b), asItIs) }

func BenchmarkScan_Ignoring(b *testing.B) {
	benchScan(b, scanner(b, "/updated_at", "/owner/id", "/*/etag"), asItIs)
}

// BenchmarkScan_Spaced has a space after each colon and comma, as Python writes it.
func BenchmarkScan_Spaced(b *testing.B) {
	benchScan(b, scanner(b), func(p []byte) []byte {
		return bytes.ReplaceAll(bytes.ReplaceAll(p, []byte(`":`), []byte(`": `)), []byte(`,"`), []byte(`, "`))
	})
}

func BenchmarkScan_Indented(b *testing.B) {
	benchScan(b, scanner(b), func(p []byte) []byte {
		var out bytes.Buffer
		if err := json.Indent(&out, p, "", "  "); err != nil {
			b.Fatal(err)
		}
		return out.Bytes()
	})
}

// BenchmarkScan_Unfamiliar is without what the Detector remembers.
func BenchmarkScan_Unfamiliar(b *testing.B) {
	d := scanner(b)
	d.root.closed = true
	d.strangers = math.MinInt // and may not begin to
	benchScan(b, d, asItIs)
}

func BenchmarkScan_Cyrillic(b *testing.B) {
	benchScan(b, scanner(b), func(p []byte) []byte {
		for k, c := range []string{"о", "е", "а"} {
			p = bytes.ReplaceAll(p, []byte{"oea"[k]}, []byte(c))
		}
		// Words stay what they are.
		for from, to := range map[string]string{"truе": "true", "fаlsе": "false"} {
			p = bytes.ReplaceAll(p, []byte(from), []byte(to))
		}
		return p
	})
}

func BenchmarkRawHash(b *testing.B) { bench(b, asItIs, func(_ *testing.B, p []byte) { RawHash(p) }) }

func BenchmarkJSONValid(b *testing.B) {
	bench(b, asItIs, func(_ *testing.B, p []byte) { json.Valid(p) })
}

func BenchmarkJSONUnmarshal(b *testing.B) {
	bench(b, asItIs, func(b *testing.B, p []byte) {
		var v map[string]any
		if err := json.Unmarshal(p, &v); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkChanged compares each record with one in which two members differ.
func BenchmarkChanged(b *testing.B) {
	d := scanner(b)
	type pair struct{ before, after Result }
	bench(b, func(p []byte) pair {
		var out pair
		out.before = keep(scan(b, d, string(p)))
		out.after = keep(out.before)
		out.after.Fields[1]++
		out.after.Fields[len(out.after.Fields)-1]++
		return out
	}, func(b *testing.B, in pair) {
		if names, ok := Changed(in.before.Names, in.before.Fields, in.after); !ok || len(names) != 2 {
			b.Fatal(names)
		}
	})
}

// BenchmarkMerge updates two members, one of them nested, and adds one.
func BenchmarkMerge(b *testing.B) {
	partial := []byte(`{"status":"closed","owner":{"name":"somebody else"},"closed_at":"2026-07-01T12:00:00.000Z"}`)
	bench(b, asItIs, func(b *testing.B, p []byte) {
		if _, err := Merge(p, partial, nil); err != nil {
			b.Fatal(err)
		}
	})
}
