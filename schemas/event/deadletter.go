package event

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
)

// Headers that a dead-lettered raw event carries in front of its own. The key and the value are those of the raw event.
const (
	HeaderDeadCode      = "dlq.code"
	HeaderDeadDetail    = "dlq.detail"
	HeaderDeadPartition = "dlq.partition"
	HeaderDeadOffset    = "dlq.offset" // with the partition: names the raw event, and tells repeats apart
)

// DeadLetterHeaders returns the headers of a raw event on its way to the dead-letter topic.
func DeadLetterHeaders(code errcode.Code, detail string, partition int32, offset int64, raw []Header) []Header {
	hs := make([]Header, 0, len(raw)+4)
	hs = append(hs,
		Header{[]byte(HeaderDeadCode), []byte(code)},
		Header{[]byte(HeaderDeadDetail), []byte(detail)},
		Header{[]byte(HeaderDeadPartition), strconv.AppendInt(nil, int64(partition), 10)},
		Header{[]byte(HeaderDeadOffset), strconv.AppendInt(nil, offset, 10)},
	)
	return append(hs, raw...)
}

// DeadLetter is a decoded dead letter: why a raw event could not be applied, and which one it was.
type DeadLetter struct {
	Code      errcode.Code
	Detail    string
	Partition int32
	Offset    int64
	Raw       []Header // the headers of the raw event, in their order; to be written again when it is replayed
}

// ErrDeadLetter is what every error of ParseDeadLetter wraps.
var ErrDeadLetter = errors.New("malformed dead letter")

// ParseDeadLetter is the inverse of DeadLetterHeaders. The four headers come first and in order, so a raw event that carries
// headers of these names (it may have been read from the dead-letter topic) keeps them. Raw aliases headers.
func ParseDeadLetter(headers []Header) (DeadLetter, error) {
	want := [...]string{HeaderDeadCode, HeaderDeadDetail, HeaderDeadPartition, HeaderDeadOffset}
	if len(headers) < len(want) {
		return DeadLetter{}, fmt.Errorf("%w: %d headers, want at least %d", ErrDeadLetter, len(headers), len(want))
	}
	for i, name := range want {
		if string(headers[i].Key) != name {
			return DeadLetter{}, fmt.Errorf("%w: header %d is %q, want %s", ErrDeadLetter, i, clip(headers[i].Key, shown), name)
		}
	}
	partition, err := strconv.ParseInt(string(headers[2].Value), 10, 32)
	if err != nil {
		return DeadLetter{}, fmt.Errorf("%w: partition: %w", ErrDeadLetter, err)
	}
	offset, err := strconv.ParseInt(string(headers[3].Value), 10, 64)
	if err != nil {
		return DeadLetter{}, fmt.Errorf("%w: offset: %w", ErrDeadLetter, err)
	}
	return DeadLetter{
		Code:      errcode.Code(headers[0].Value),
		Detail:    string(headers[1].Value),
		Partition: int32(partition),
		Offset:    offset,
		Raw:       headers[len(want):],
	}, nil
}
