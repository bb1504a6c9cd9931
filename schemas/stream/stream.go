package stream

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of names and record ids, in bytes of UTF-8 before encoding.
const (
	NameBytesMax = 255
	IDBytesMax   = 512
)

// VariantBase is the variant of a stream that names none.
const VariantBase = "base"

// ID names a stream. The zero Variant means VariantBase; the other parts must be given.
type ID struct {
	Environment string `json:"environment"`
	Integration string `json:"integration"`
	Connection  string `json:"connection"`
	Model       string `json:"model"`
	Variant     string `json:"variant"`
}

// ErrInvalid is what every error of this package wraps.
var ErrInvalid = errors.New("invalid stream name")

// Validate reports the first part that is empty, longer than NameBytesMax, not UTF-8, or that holds a NUL.
func (id ID) Validate() error {
	for _, p := range id.parts() {
		switch {
		case p.value == "":
			return fmt.Errorf("%w: %s is empty", ErrInvalid, p.name)
		case len(p.value) > NameBytesMax:
			return fmt.Errorf("%w: %s has %d bytes, at most %d are allowed", ErrInvalid, p.name, len(p.value), NameBytesMax)
		case !utf8.ValidString(p.value):
			return fmt.Errorf("%w: %s is not UTF-8", ErrInvalid, p.name)
		case strings.IndexByte(p.value, 0) >= 0:
			return fmt.Errorf("%w: %s holds a NUL", ErrInvalid, p.name)
		}
	}
	return nil
}

type part struct{ name, value string }

func (id ID) parts() [5]part {
	v := id.Variant
	if v == "" {
		v = VariantBase
	}
	return [5]part{
		{"environment", id.Environment}, {"integration", id.Integration}, {"connection", id.Connection},
		{"model", id.Model}, {"variant", v},
	}
}

// Key is the stream key: the five parts percent-encoded (RFC 3986: everything but the unreserved characters, hex digits in
// upper case) and joined by "/". It is printable ASCII.
func (id ID) Key() string {
	b := make([]byte, 0, 64)
	for i, p := range id.parts() {
		if i > 0 {
			b = append(b, '/')
		}
		b = AppendEscaped(b, p.value)
	}
	return string(b)
}

// String is the stream key; it is safe in logs.
func (id ID) String() string { return id.Key() }

// ParseKey is the inverse of Key. It refuses any spelling that Key does not produce, so that a stream has one key only.
func ParseKey(key string) (ID, error) {
	parts := strings.Split(key, "/")
	if len(parts) != 5 {
		return ID{}, fmt.Errorf("%w: key has %d parts, want 5", ErrInvalid, len(parts))
	}
	for i, p := range parts {
		v, err := unescape(p)
		if err != nil {
			return ID{}, err
		}
		parts[i] = v
	}
	id := ID{Environment: parts[0], Integration: parts[1], Connection: parts[2], Model: parts[3], Variant: parts[4]}
	if err := id.Validate(); err != nil {
		return ID{}, err
	}
	if id.Key() != key {
		return ID{}, fmt.Errorf("%w: key is not in its canonical spelling %q", ErrInvalid, id.Key())
	}
	return id, nil
}

// RecordKey is the Kafka key of a change event: stream key, "/", percent-encoded record id.
func RecordKey(streamKey, recordID string) string {
	return string(AppendRecordKey(make([]byte, 0, len(streamKey)+len(recordID)+8), streamKey, recordID))
}

// AppendRecordKey appends RecordKey to b.
func AppendRecordKey[K, I ~string | ~[]byte](b []byte, streamKey K, recordID I) []byte {
	b = append(b, streamKey...)
	b = append(b, '/')
	return AppendEscaped(b, recordID)
}

// SplitRecordKey is the inverse of RecordKey. It refuses keys that do not have six parts, such as those of control records; the
// stream key itself is for ParseKey to judge.
func SplitRecordKey(key string) (streamKey, recordID string, err error) {
	if n := strings.Count(key, "/"); n != 5 {
		return "", "", fmt.Errorf("%w: record key has %d parts, want 6", ErrInvalid, n+1)
	}
	i := strings.LastIndexByte(key, '/')
	recordID, err = unescape(key[i+1:])
	if err != nil {
		return "", "", err
	}
	if err := CheckID(recordID); err != nil {
		return "", "", err
	}
	return key[:i], recordID, nil
}

// CheckID reports whether a record id may be stored: 1 to IDBytesMax bytes of UTF-8 without NUL. Numbers are normalised to
// their string by whoever reads the payload; here an id is always text.
func CheckID[I ~string | ~[]byte](id I) error {
	switch {
	case len(id) == 0:
		return fmt.Errorf("%w: record id is empty", ErrInvalid)
	case len(id) > IDBytesMax:
		return fmt.Errorf("%w: record id has %d bytes, at most %d are allowed", ErrInvalid, len(id), IDBytesMax)
	}
	for i := 0; i < len(id); {
		switch c := id[i]; {
		case c == 0:
			return fmt.Errorf("%w: record id holds a NUL", ErrInvalid)
		case c < utf8.RuneSelf:
			i++
		default:
			// A conversion of four bytes stays on the stack, one of the whole id would not.
			r, n := utf8.DecodeRuneInString(string(id[i:min(len(id), i+utf8.UTFMax)]))
			if r == utf8.RuneError && n == 1 {
				return fmt.Errorf("%w: record id is not UTF-8", ErrInvalid)
			}
			i += n
		}
	}
	return nil
}

const upperHex = "0123456789ABCDEF"

// unreserved marks the characters that RFC 3986 section 2.3 leaves as they are.
var unreserved = func() (t [256]bool) {
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for _, c := range "-._~" {
		t[c] = true
	}
	return t
}()

// AppendEscaped appends s percent-encoded.
func AppendEscaped[S ~string | ~[]byte](b []byte, s S) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; unreserved[c] {
			b = append(b, c)
		} else {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return b
}

func unescape(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 {
		for i := 0; i < len(s); i++ {
			if !unreserved[s[i]] {
				return "", fmt.Errorf("%w: character %q is not encoded", ErrInvalid, s[i])
			}
		}
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '%' {
			if !unreserved[c] {
				return "", fmt.Errorf("%w: character %q is not encoded", ErrInvalid, c)
			}
			b = append(b, c)
			continue
		}
		if i+2 >= len(s) {
			return "", fmt.Errorf("%w: cut percent sign", ErrInvalid)
		}
		hi, lo := fromHex(s[i+1]), fromHex(s[i+2])
		if hi < 0 || lo < 0 {
			return "", fmt.Errorf("%w: %q is not an encoded byte", ErrInvalid, s[i:i+3])
		}
		c = byte(hi<<4 | lo)
		if unreserved[c] {
			return "", fmt.Errorf("%w: %q needs no encoding", ErrInvalid, c)
		}
		b = append(b, c)
		i += 2
	}
	return string(b), nil
}

func fromHex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
