package detect

import (
	"errors"
	"fmt"
)

var (
	// ErrInvalidJSON: the payload is not one JSON text as RFC 8259 has it, in valid UTF-8.
	ErrInvalidJSON = errors.New("invalid JSON")
	// ErrNotObject: the payload is JSON, but not an object at the top level.
	ErrNotObject = errors.New("not a JSON object")
	// ErrTooDeep: objects and arrays are nested more than MaxDepth levels deep. What follows was not looked at.
	ErrTooDeep = errors.New("nested too deep")
	// ErrTooLarge: the payload is longer than MaxPayload bytes.
	ErrTooLarge = errors.New("payload too large")
	// ErrInvalidPointer: a string is not a JSON Pointer (RFC 6901) to something below the top level.
	ErrInvalidPointer = errors.New("invalid JSON pointer")
)

// PayloadError says what is wrong with a payload and where. It wraps one of the errors above and holds no payload
// bytes, so that it may be logged.
type PayloadError struct {
	Kind   error
	Offset int // in bytes from the start of the payload
	Reason string
}

func (e *PayloadError) Error() string {
	return fmt.Sprintf("%v: %s at byte %d", e.Kind, e.Reason, e.Offset)
}

// Unwrap returns Kind, for errors.Is.
func (e *PayloadError) Unwrap() error { return e.Kind }
