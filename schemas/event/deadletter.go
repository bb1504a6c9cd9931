package event

import (
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
