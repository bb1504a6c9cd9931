package follow

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/rulev"
)

// Record is one record of a group: a change, or a control record. The bytes are not used again by the follower.
type Record struct {
	Op     event.Op
	Meta   event.Meta
	Key    []byte // record key of a change, stream key or event.PartitionKey of a control record
	Value  []byte
	Offset int64
}

// Payload is the record as the sync function wrote it, nil if there is none: of a change, or of RESTORED.
func (r *Record) Payload() ([]byte, error) { return event.Payload(r.Value, &r.Meta) }

// recordOverhead is the memory of a Record beside its bytes.
const recordOverhead = 320

func (r *Record) size() int { return len(r.Key) + len(r.Value) + recordOverhead }

// Group is a valid group. Records is valid until the function that is given the group returns.
type Group struct {
	Partition int32
	Records   []Record // rising csn; never empty
	// Next is the position behind the group. Storing it with what the group made makes the two one.
	Next Position
}

// State is the rule's state behind the group.
func (g *Group) State() rulev.State { return g.Next.State }

var headerOp, headerMeta = []byte(event.HeaderOp), []byte(event.HeaderMeta)

// decode reads what rule V needs of a Kafka record. Of a header that occurs twice the last one counts, as for event.ParseRecord.
func decode(k *kgo.Record, r *Record) error {
	var headers [2]event.Header
	for i := range k.Headers {
		switch h := &k.Headers[i]; h.Key {
		case event.HeaderOp:
			headers[0] = event.Header{Key: headerOp, Value: h.Value}
		case event.HeaderMeta:
			headers[1] = event.Header{Key: headerMeta, Value: h.Value}
		}
	}
	op, err := event.ParseRecord(headers[:], &r.Meta)
	if err != nil {
		return fmt.Errorf("record at offset %d of partition %d: %w", k.Offset, k.Partition, err)
	}
	r.Op, r.Key, r.Value, r.Offset = op, k.Key, k.Value, k.Offset
	return nil
}
