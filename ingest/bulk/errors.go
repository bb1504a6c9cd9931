package bulk

import "fmt"

// The codes of [Error]. They are stable: scripts and documentation refer to them.
const (
	CodeInvalidJSON       = "bulk.invalid_json"       // not JSON (RFC 8259), cut off, or more text after the array
	CodeNotAnObject       = "bulk.not_an_object"      // JSON, but a record is not an object
	CodeMissingID         = "bulk.missing_id"         // the id member is absent or null
	CodeInvalidID         = "bulk.invalid_id"         // the id member is there, but cannot be an id
	CodeRecordTooLarge    = "bulk.record_too_large"   // one record is larger than Options.MaxRecordBytes
	CodeUnsupportedFormat = "bulk.unsupported_format" // neither an array nor objects: another format, or nothing at all
	CodeCorruptGzip       = "bulk.corrupt_gzip"       // gzip by its first bytes, but cut off or damaged
	CodeInputTooLarge     = "bulk.input_too_large"    // an input that must be spooled is larger than SpoolOptions.MaxBytes
	CodeInputChanged      = "bulk.input_changed"      // the second pass did not see what the first one saw
)

// Error says what is wrong with an input. Faults of the machine (a read that fails, a full disk) are not an Error; they come
// wrapped as they are.
type Error struct {
	Code   string // one of the Code constants
	Index  int64  // position of the record in the input, from 0; -1 when the fault lies in no record
	Line   int64  // line of the fault, from 1; 0 when it has no place in the text
	Offset int64  // position of the fault in bytes of the decompressed input, from 0
	Detail string // what was found, one clause
	Hint   string // what to do about it, one sentence
}

// Error gives code, place and detail on one line. The hint is left to the caller, who knows where to put it.
func (e *Error) Error() string {
	switch {
	case e.Index >= 0:
		return fmt.Sprintf("%s: record %d (line %d, byte %d): %s", e.Code, e.Index, e.Line, e.Offset, e.Detail)
	case e.Line > 0:
		return fmt.Sprintf("%s: line %d, byte %d: %s", e.Code, e.Line, e.Offset, e.Detail)
	default:
		return fmt.Sprintf("%s: %s", e.Code, e.Detail)
	}
}
