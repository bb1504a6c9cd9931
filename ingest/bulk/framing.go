package bulk

import (
	"bytes"
	"fmt"
	"io"
	"unicode/utf8"
)

const (
	hintFormat = "An input is one array of objects, or one object a line."
	hintJSON   = "The text must be JSON (RFC 8259); jq empty FILE checks it."
)

// open tells the format by the first character and leaves the position at the first record, if there is one.
func (r *Reader) open() error {
	if err := r.extend(headMax); err != nil {
		return err
	}
	head := r.buf[:r.end]
	if err := foreignFormat(head); err != nil {
		return err
	}
	if bytes.HasPrefix(head, []byte("\xef\xbb\xbf")) {
		r.pos = 3
	}
	switch c, _, err := r.space(); {
	case err == io.EOF:
		return &Error{
			Code: CodeUnsupportedFormat, Index: -1, Detail: "the input is empty",
			Hint: "A collection without records is written [].",
		}
	case err != nil:
		return err
	case c == '[':
		r.pos++
		r.array = true
	case c != '{':
		e := r.fault(CodeUnsupportedFormat, 0, "the input begins with "+r.found(0)+", not with '[' or '{'", hintFormat)
		e.Index = -1
		return e
	}
	return nil
}

// seek moves to the '{' of the next record, over what stands between records. It gives io.EOF after the last.
func (r *Reader) seek() error {
	if r.array {
		return r.seekElement()
	}
	c, lineEnded, err := r.space()
	switch {
	case err != nil:
		return err
	case c == ',':
		return r.invalid(0, "an object", "Objects with commas between them need [ and ] around them.")
	case r.next > 0 && !lineEnded:
		// Objects on one line most often come from a writer that has lost line ends, and perhaps more.
		return r.invalid(0, "a line end after the record", hintFormat)
	}
	return r.wantObject(c)
}

func (r *Reader) seekElement() error {
	c, err := r.inArray()
	if err != nil {
		return err
	}
	if c == ']' {
		r.pos++
		return r.seekEnd()
	}
	if r.next > 0 {
		if c != ',' {
			return r.invalid(0, "',' or ']' after the record", hintJSON)
		}
		r.pos++
		if c, err = r.inArray(); err != nil {
			return err
		}
		if c == ']' {
			return r.invalid(0, "a record after ','", "Remove the comma before the ].")
		}
	}
	return r.wantObject(c)
}

// inArray is space where the input must not end.
func (r *Reader) inArray() (byte, error) {
	c, _, err := r.space()
	if err == io.EOF {
		return 0, r.cutOff("inside the array")
	}
	return c, err
}

// seekEnd checks that nothing follows the array.
func (r *Reader) seekEnd() error {
	if _, _, err := r.space(); err != nil {
		return err // io.EOF, if all is well
	}
	e := r.fault(CodeInvalidJSON, 0, "want the end of the input after the array, found "+r.found(0), "Load several arrays as several files.")
	e.Index = -1
	return e
}

// wantObject checks the first character of a record.
func (r *Reader) wantObject(c byte) error {
	if c == '{' {
		return nil
	}
	if err := r.extend(len("false")); err != nil {
		return err
	}
	rest := r.buf[r.pos:r.end]
	switch {
	case c == '"', c == '[', c == '-', digit(c),
		bytes.HasPrefix(rest, []byte("true")), bytes.HasPrefix(rest, []byte("false")), bytes.HasPrefix(rest, []byte("null")):
		return r.fault(CodeNotAnObject, 0, "the record is "+kind(c), hintFormat)
	}
	return r.invalid(0, "an object", hintFormat)
}

// fault makes an error at byte i from the position.
func (r *Reader) fault(code string, i int, detail, hint string) *Error {
	at := r.pos + i
	return &Error{
		Code: code, Index: r.next, Line: r.line + int64(bytes.Count(r.buf[r.pos:at], newline)), Offset: r.base + int64(at),
		Detail: detail, Hint: hint,
	}
}

// invalid makes the error of text that is not JSON at byte i from the position.
func (r *Reader) invalid(i int, want, hint string) *Error {
	return r.fault(CodeInvalidJSON, i, "want "+want+", found "+r.found(i), hint)
}

// cutOff makes the error of an input that ends where it must not.
func (r *Reader) cutOff(where string) *Error {
	return r.fault(CodeInvalidJSON, r.end-r.pos, "the input ends "+where, "It is cut off; fetch or write it again.")
}

// found names the character at byte i from the position. One character is shown and never more: payloads are private.
func (r *Reader) found(i int) string {
	rest := r.buf[r.pos+i : r.end]
	if len(rest) == 0 {
		return "the end"
	}
	if c, n := utf8.DecodeRune(rest); c != utf8.RuneError || n > 1 {
		return fmt.Sprintf("%q", c)
	}
	return fmt.Sprintf("the byte 0x%02x", rest[0])
}

func (r *Reader) notUTF8(payload []byte) *Error {
	i := 0
	for {
		c, n := utf8.DecodeRune(payload[i:])
		if c == utf8.RuneError && n == 1 {
			break
		}
		i += n
	}
	return r.invalid(i, "UTF-8", "JSON is UTF-8 (RFC 8259, 8.1); convert the file with iconv.")
}

func (r *Reader) badID(code, detail string) *Error {
	hint := "An id is a string or a number, 1 to 512 bytes long."
	if code == CodeMissingID {
		hint = "Name the member that identifies a record; records inside another member have to be taken out first (jq '.data')."
	}
	return r.fault(code, r.scan.id.start, fmt.Sprintf("the id member %q %s", r.id, detail), hint)
}

// tooLarge makes the error of a record above the limit. size is 0 when its end is not in the window: then it is looked for, and
// what follows in the window is lost.
func (r *Reader) tooLarge(size int64) error {
	e := r.fault(CodeRecordTooLarge, 0, "", "Raise the limit, or leave the large member out of the records.")
	atLeast := ""
	if size == 0 {
		var ended bool
		var err error
		if size, ended, err = r.skim(); err != nil {
			return err
		}
		if !ended {
			atLeast = "at least "
		}
	}
	e.Detail = fmt.Sprintf("the record has %s%d bytes, the limit is %d", atLeast, size, r.limit)
	return e
}
