package detect

// validUTF8 reports whether b[:n] is valid UTF-8; behind it there are slack zeros. It runs a state machine whose states
// are shift counts: one table entry holds, for a byte, the next state of every state, so that a step is a shift, and
// text of mixed scripts costs the same as any other. (utf8.Valid branches on every character, which took longer
// than all the rest of a scan. The technique is Per Vognsen's "shift-based DFA".)
func validUTF8(b []byte, n int) bool {
	state := uint64(complete)
	for i := 0; i < n; i += 8 {
		x := load(b, i)
		if x&highs == 0 && state&63 == complete {
			continue
		}
		for range 8 {
			state = utf8Steps[byte(x)] >> (state & 63)
			x >>= 8
		}
	}
	return state&63 == complete
}

// The states of validUTF8, six bits each. Wrong is 0, so that nothing leads out of it.
const (
	wrong    = 6 * iota
	complete // at the beginning of a character
	one      // one, two, three more bytes 80-BF
	two
	three
	afterE0 // A0-BF, to exclude overlong forms, then one
	afterED // 80-9F, to exclude surrogates, then one
	afterF0 // 90-BF, to exclude overlong forms, then two
	afterF4 // 80-8F, to exclude what is above U+10FFFF, then two
)

var utf8Steps = func() (t [256]uint64) {
	step := func(from uint64, first, last int, to uint64) {
		for c := first; c <= last; c++ {
			t[c] |= to << from
		}
	}
	step(complete, 0x00, 0x7F, complete)
	step(complete, 0xC2, 0xDF, one)
	step(complete, 0xE0, 0xE0, afterE0)
	step(complete, 0xE1, 0xEC, two)
	step(complete, 0xED, 0xED, afterED)
	step(complete, 0xEE, 0xEF, two)
	step(complete, 0xF0, 0xF0, afterF0)
	step(complete, 0xF1, 0xF3, three)
	step(complete, 0xF4, 0xF4, afterF4)
	step(one, 0x80, 0xBF, complete)
	step(two, 0x80, 0xBF, one)
	step(three, 0x80, 0xBF, two)
	step(afterE0, 0xA0, 0xBF, one)
	step(afterED, 0x80, 0x9F, one)
	step(afterF0, 0x90, 0xBF, two)
	step(afterF4, 0x80, 0x8F, two)
	return t
}()
