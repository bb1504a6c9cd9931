package detect

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf16"
)

// seeded returns a source of randomness whose seed a failing test prints.
func seeded(t testing.TB, seed uint64) *rand.Rand {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, seed))
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// names are such as are easily mixed up: one a prefix of another, equal in the first eight bytes, equal but for the
// escape, with another order in UTF-8 than in UTF-16, and such as mean something in a pointer.
var names = []string{
	"", "a", "b", "c", "ab", "id", "name", "owner", "tags", "items", "0", "1", "2", "*", "~", "/", "a/b", "~1", "a~b",
	"created_at", "created_by", "created_on", "createdAt", "updated_at", "12345678", "1234567", "123456789", "12345678\x00",
	"a\x00", "\x00", "a\"b", "a\\b", "a\nb", "\x1f", "\x7f", "é", "e\u0301", "ß", "\u2028", "\ud7ff", "\ue000", "\ufeff", "\uffff",
	"\U00010000", "😀", "\U0010ffff", "a😀", "a\uffff", "sevenby😀", "sevenby\uffee", "eightbyt😀", "eightbyt\uffee",
	strings.Repeat("n", nameMax), strings.Repeat("n", nameMax+1), strings.Repeat("long ", 60),
}

func randomObject(r *rand.Rand, depth int) map[string]any {
	m := map[string]any{}
	for range r.IntN(7) {
		m[pick(r, names...)] = randomValue(r, depth-1)
	}
	return m
}

func randomValue(r *rand.Rand, depth int) any {
	if depth > 0 && r.IntN(3) == 0 {
		if r.IntN(2) == 0 {
			return randomObject(r, depth)
		}
		a := []any{}
		for range r.IntN(4) {
			a = append(a, randomValue(r, depth-1))
		}
		return a
	}
	switch r.IntN(4) {
	case 0:
		return pick[any](r, nil, true, false, "", "null", "true", "1", "{}", "[]", map[string]any{}, []any{})
	case 1:
		return json.Number(pick(r,
			"0", "-0", "0.0", "1", "1.0", "1e0", "1E0", "1e+0", "-1", "10", "12345678", "123456789", "0.1", "0.10", "1e999",
			"1234567890123456789012345678901234567890", "-12345678.12345678e-12345678"))
	case 2:
		return pick(r, names...)
	default:
		var b strings.Builder
		for range r.IntN(20) {
			b.WriteString(pick(r, names[:48]...))
		}
		return b.String()
	}
}

// style writes one tree in many ways, all with one meaning.
type style struct {
	r     *rand.Rand
	mark  string // of lone surrogates, see protect
	space bool
	order bool // shuffle the members
	again bool // write members twice, first with another value
}

func (s style) write(v any) string {
	gap := func() string {
		if !s.space {
			return ""
		}
		return strings.Repeat(pick(s.r, " ", "\n", "\t", "\r", "  "), s.r.IntN(3))
	}
	switch v := v.(type) {
	case []any:
		var parts []string
		for _, e := range v {
			parts = append(parts, gap()+s.write(e)+gap())
		}
		return "[" + strings.Join(parts, ",") + gap() + "]"
	case map[string]any:
		ns := sortedNames(v)
		if s.order {
			s.r.Shuffle(len(ns), func(i, j int) { ns[i], ns[j] = ns[j], ns[i] })
		}
		member := func(name string, v any) string {
			return gap() + s.quote(name) + gap() + ":" + gap() + s.write(v) + gap()
		}
		var parts []string
		if s.again {
			for _, name := range ns {
				if s.r.IntN(4) == 0 {
					parts = append(parts, member(name, randomValue(s.r, 2)))
				}
			}
		}
		for _, name := range ns {
			parts = append(parts, member(name, v[name]))
		}
		return "{" + strings.Join(parts, ",") + gap() + "}"
	case string:
		return s.quote(v)
	case json.Number:
		return v.String()
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func (s style) quote(text string) string {
	var b strings.Builder
	for k, part := range strings.Split(text, s.mark) {
		if k > 0 {
			b.WriteString(pick(s.r, `\u`+strings.ToLower(part[:4]), `\u`+strings.ToUpper(part[:4])))
			part = part[4:]
		}
		for _, c := range part {
			b.WriteString(s.spell(c))
		}
	}
	return `"` + b.String() + `"`
}

var shortEscapes = map[rune]string{
	'"': `\"`, '\\': `\\`, '/': `\/`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`,
}

func (s style) spell(c rune) string {
	plain := c >= ' ' && c != '"' && c != '\\'
	if plain && s.r.IntN(8) != 0 {
		return string(c)
	}
	if e := shortEscapes[c]; e != "" && s.r.IntN(4) != 0 {
		return e
	}
	hex := ""
	for _, u := range utf16.Encode([]rune{c}) {
		hex += fmt.Sprintf(pick(s.r, `\u%04x`, `\u%04X`), u)
	}
	return hex
}

// mutate changes one thing somewhere in a tree, most of the time; it works on a copy.
func mutate(r *rand.Rand, v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for k, e := range v {
			m[k] = e
		}
		ns := sortedNames(m)
		switch {
		case len(ns) == 0 || r.IntN(5) == 0:
			m[pick(r, names...)] = randomValue(r, 2)
		case r.IntN(4) == 0:
			delete(m, pick(r, ns...))
		case r.IntN(4) == 0: // exchange two values
			a, b := pick(r, ns...), pick(r, ns...)
			m[a], m[b] = m[b], m[a]
		default:
			name := pick(r, ns...)
			m[name] = mutate(r, m[name])
		}
		return m
	case []any:
		a := append([]any{}, v...)
		switch {
		case len(a) == 0 || r.IntN(4) == 0:
			return append(a, randomValue(r, 1))
		case r.IntN(3) == 0:
			return a[1:]
		case r.IntN(3) == 0:
			return []any{v}
		}
		k := r.IntN(len(a))
		a[k] = mutate(r, a[k])
		return a
	case string:
		switch r.IntN(4) {
		case 0:
			return v + "x"
		case 1:
			return json.Number("1")
		}
		return randomValue(r, 1)
	case json.Number:
		if r.IntN(2) == 0 {
			return v.String()
		}
		if strings.ContainsAny(v.String(), "eE") {
			return v + "0"
		}
		return v + "e1"
	case nil:
		return pick[any](r, "null", false, map[string]any{}, []any{}, "")
	}
	return randomValue(r, 1)
}
