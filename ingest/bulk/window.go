package bulk

import "io"

var newline = []byte{'\n'}

// extend reads until the window holds want bytes (at most one more than the record limit), or the input ends. The bytes before
// the position are given up, and with them the payload of the last record.
func (r *Reader) extend(want int) error {
	want = min(want, max(r.limit+1, len(r.buf)))
	if r.pos > 0 {
		copy(r.buf, r.buf[r.pos:r.end])
		r.base += int64(r.pos)
		r.end -= r.pos
		r.pos = 0
	}
	if want > len(r.buf) {
		grown := make([]byte, want)
		copy(grown, r.buf[:r.end])
		r.buf = grown
	}
	for idle := 0; r.end < want && !r.eof; {
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		switch {
		case err == io.EOF:
			r.eof = true
		case err != nil:
			return r.src.fault(err)
		case n > 0:
			idle = 0
		default:
			if idle++; idle == 100 {
				return r.src.fault(io.ErrNoProgress)
			}
		}
	}
	return nil
}

// space moves the position to the next byte that is not white space and gives it. It gives io.EOF at the end, and whether a
// line has ended on the way.
func (r *Reader) space() (c byte, lineEnded bool, err error) {
	line := r.line
	for {
		for ; r.pos < r.end; r.pos++ {
			switch c := r.buf[r.pos]; {
			case c == '\n':
				r.line++
			case !isSpace(c):
				return c, r.line > line, nil
			}
		}
		if err := r.extend(1); err != nil {
			return 0, false, err
		}
		if r.pos == r.end {
			return 0, r.line > line, io.EOF
		}
	}
}

// skim looks for the end of the record at the position without keeping it, and gives its size; or false and the size seen so
// far when the input ends first or skimBytesMax is reached. It reads brackets and strings only.
func (r *Reader) skim() (size int64, ended bool, err error) {
	depth, inString, escaped := 0, false, false
	for size < skimBytesMax {
		for ; r.pos < r.end; r.pos++ {
			size++
			switch c := r.buf[r.pos]; {
			case escaped:
				escaped = false
			case inString:
				escaped, inString = c == '\\', c != '"'
			case c == '"':
				inString = true
			case c == '{' || c == '[':
				depth++
			case c == '}' || c == ']':
				if depth--; depth == 0 {
					return size, true, nil
				}
			}
		}
		if err := r.extend(1); err != nil {
			return 0, false, err
		}
		if r.pos == r.end {
			break
		}
	}
	return size, false, nil
}
