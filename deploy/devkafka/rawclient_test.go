package devkafka

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"slices"
	"testing"
	"time"
)

// A client of its own, written from the protocol guide alone, so that what franz-go and kfake might misunderstand in the same way
// shows: Metadata v1, CreateTopics v0, InitProducerId v0, Produce v3, ListOffsets v1, Fetch v4, DeleteRecords v0, record batches of
// format 2.

type rawClient struct {
	t           testing.TB
	conn        net.Conn
	correlation int32
}

func dialRaw(t testing.TB, addr string) *rawClient {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	return &rawClient{t: t, conn: conn}
}

// wire appends the protocol's primitive types.
type wire []byte

func (w wire) i8(v int8) wire   { return append(w, byte(v)) }
func (w wire) i16(v int16) wire { return binary.BigEndian.AppendUint16(w, uint16(v)) }
func (w wire) i32(v int32) wire { return binary.BigEndian.AppendUint32(w, uint32(v)) }
func (w wire) i64(v int64) wire { return binary.BigEndian.AppendUint64(w, uint64(v)) }
func (w wire) str(v string) wire {
	return append(w.i16(int16(len(v))), v...)
}
func (w wire) bytes(v []byte) wire    { return append(w.i32(int32(len(v))), v...) }
func (w wire) varint(v int64) wire    { return binary.AppendVarint(w, v) }
func (w wire) varbytes(v []byte) wire { return append(w.varint(int64(len(v))), v...) }

// scan takes them off again, and panics past the end.
type scan struct{ b []byte }

func (s *scan) take(n int) []byte { v := s.b[:n]; s.b = s.b[n:]; return v }
func (s *scan) i8() int8          { return int8(s.take(1)[0]) }
func (s *scan) i16() int16        { return int16(binary.BigEndian.Uint16(s.take(2))) }
func (s *scan) i32() int32        { return int32(binary.BigEndian.Uint32(s.take(4))) }
func (s *scan) i64() int64        { return int64(binary.BigEndian.Uint64(s.take(8))) }
func (s *scan) str() string {
	n := s.i16()
	if n < 0 {
		return ""
	}
	return string(s.take(int(n)))
}
func (s *scan) varint() int64 {
	v, n := binary.Varint(s.b)
	s.b = s.b[n:]
	return v
}

// call sends one request and returns the body of its response.
func (c *rawClient) call(key, version int16, body wire) *scan {
	c.t.Helper()
	c.correlation++
	head := wire{}.i16(key).i16(version).i32(c.correlation).str("raw")
	_, err := c.conn.Write(append(wire{}.i32(int32(len(head)+len(body))), append(head, body...)...))
	must(c.t, err)
	var size [4]byte
	_, err = io.ReadFull(c.conn, size[:])
	must(c.t, err)
	resp := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err = io.ReadFull(c.conn, resp)
	must(c.t, err)
	s := &scan{resp}
	if got := s.i32(); got != c.correlation {
		c.t.Fatalf("answer to request %d, want %d", got, c.correlation)
	}
	return s
}

// rawBatch is a record batch of values without keys.
type rawBatch struct {
	producerID int64 // 0 for none
	epoch      int16
	sequence   int32
	attributes int16
	records    []string
}

func (b rawBatch) encode() []byte {
	var records wire
	for i, v := range b.records {
		r := wire{}.i8(0).varint(0).varint(int64(i)).varint(-1).varbytes([]byte(v)).varint(1).varbytes([]byte("h")).varbytes([]byte("header value"))
		records = records.varbytes(r)
	}
	id, epoch, sequence := b.producerID, b.epoch, b.sequence
	if id == 0 {
		id, epoch, sequence = -1, -1, -1
	}
	now := time.Now().UnixMilli()
	body := wire{}.i16(b.attributes).i32(int32(len(b.records) - 1)).i64(now).i64(now).i64(id).i16(epoch).i32(sequence).i32(int32(len(b.records)))
	body = append(body, records...)
	crc := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))
	out := wire{}.i64(0).i32(int32(4 + 1 + 4 + len(body))).i32(0).i8(2).i32(int32(crc))
	return append(out, body...)
}

// produce returns the error code and base offset of one batch to one partition, acknowledged by all.
func (c *rawClient) produce(topic string, partition int32, b rawBatch) (code int16, base int64) {
	body := wire{}.i16(-1).i16(-1).i32(5000).i32(1).str(topic).i32(1).i32(partition).bytes(b.encode())
	s := c.call(0, 3, body)
	s.i32()
	s.str()
	s.i32()
	s.i32()
	code, base = s.i16(), s.i64()
	return code, base
}

// codeOf sends a batch to partition 0 of topic t.
func codeOf(t testing.TB, addr string, b rawBatch) int16 {
	t.Helper()
	code, _ := dialRaw(t, addr).produce("t", 0, b)
	return code
}

// initProducer asks for a producer id without a transactional id.
func (c *rawClient) initProducer() (id int64, epoch int16) {
	s := c.call(22, 0, wire{}.i16(-1).i32(0))
	s.i32()
	if code := s.i16(); code != 0 {
		c.t.Fatalf("init producer id: code %d", code)
	}
	id, epoch = s.i64(), s.i16()
	return id, epoch
}

func (c *rawClient) listOffset(topic string, partition int32, at int64) int64 {
	s := c.call(2, 1, wire{}.i32(-1).i32(1).str(topic).i32(1).i32(partition).i64(at))
	s.i32()
	s.str()
	s.i32()
	s.i32()
	if code := s.i16(); code != 0 {
		c.t.Fatalf("list offsets: code %d", code)
	}
	s.i64()
	return s.i64()
}

type rawRecord struct {
	offset        int64
	value, header string
}

// fetch reads one answer's worth of uncompressed records.
func (c *rawClient) fetch(topic string, partition int32, from int64) []rawRecord {
	s := c.call(1, 4, wire{}.i32(-1).i32(100).i32(1).i32(1<<20).i8(0).i32(1).str(topic).i32(1).i32(partition).i64(from).i32(1<<20))
	s.i32()
	s.i32()
	s.str()
	s.i32()
	s.i32()
	if code := s.i16(); code != 0 {
		c.t.Fatalf("fetch: code %d", code)
	}
	s.i64()
	s.i64()
	for range max(0, s.i32()) { // aborted transactions
		s.i64()
		s.i64()
	}
	data := &scan{s.take(int(s.i32()))}
	var out []rawRecord
	for len(data.b) > 0 {
		base := data.i64()
		b := &scan{data.take(int(data.i32()))}
		b.i32()
		if magic := b.i8(); magic != 2 {
			c.t.Fatalf("batch of format %d", magic)
		}
		if crc := uint32(b.i32()); crc != crc32.Checksum(b.b, crc32.MakeTable(crc32.Castagnoli)) {
			c.t.Fatal("batch fails its checksum")
		}
		b.take(2 + 4 + 8 + 8 + 8 + 2 + 4)
		for range b.i32() {
			r := &scan{b.take(int(b.varint()))}
			r.i8()
			r.varint()
			rec := rawRecord{offset: base + r.varint()}
			r.take(max(0, int(r.varint())))
			rec.value = string(r.take(int(r.varint())))
			for range r.varint() {
				r.take(int(r.varint()))
				rec.header += string(r.take(int(r.varint())))
			}
			out = append(out, rec)
		}
	}
	return out
}

func TestRawClient_ProducesAndReads(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir)
	c := dialRaw(t, b.Addr())

	// CreateTopics v0: name, partitions, replication factor, assignments, configs; timeout.
	s := c.call(19, 0, wire{}.i32(1).str("raw").i32(2).i16(1).i32(0).i32(1).str("cleanup.policy").str("compact").i32(5000))
	s.i32()
	s.str()
	if code := s.i16(); code != 0 {
		t.Fatalf("create topics: code %d", code)
	}

	// Metadata v1 names one broker, at the address that was dialled.
	s = c.call(3, 1, wire{}.i32(1).str("raw"))
	if n := s.i32(); n != 1 {
		t.Fatalf("%d brokers", n)
	}
	s.i32()
	host, port := s.str(), s.i32()
	if got := fmt.Sprintf("%s:%d", host, port); got != b.Addr() {
		t.Errorf("clients are sent to %s, want %s", got, b.Addr())
	}

	want := []string{"one", "two", "three"}
	for i, v := range want {
		if code, base := c.produce("raw", 1, rawBatch{records: []string{v}}); code != 0 || base != int64(i) {
			t.Fatalf("produce: code %d, offset %d", code, base)
		}
	}
	// Idempotent: the same sequence number twice is stored once, a gap is refused (45, out of order).
	batch := rawBatch{records: []string{"four", "five"}}
	batch.producerID, batch.epoch = c.initProducer()
	for range 2 {
		if code, base := c.produce("raw", 1, batch); code != 0 || base != 3 {
			t.Fatalf("idempotent produce: code %d, offset %d", code, base)
		}
	}
	batch.sequence = 10
	if code, _ := c.produce("raw", 1, batch); code != 45 {
		t.Fatalf("a sequence gap was answered with code %d", code)
	}
	batch.sequence, batch.records = 2, []string{"six"}
	if code, base := c.produce("raw", 1, batch); code != 0 || base != 5 {
		t.Fatalf("idempotent produce: code %d, offset %d", code, base)
	}
	want = append(want, "four", "five", "six")

	if end := c.listOffset("raw", 1, -1); end != 6 {
		t.Errorf("log ends at %d", end)
	}
	check := func(records []rawRecord, from int64) {
		t.Helper()
		var got []string
		for i, r := range records {
			got = append(got, r.value)
			if r.offset != from+int64(i) || r.header != "header value" {
				t.Errorf("record %d: %+v", i, r)
			}
		}
		if !slices.Equal(got, want[from:]) {
			t.Errorf("read %q, want %q", got, want[from:])
		}
	}
	check(c.fetch("raw", 1, 0), 0)

	// DeleteRecords v0 to the very end leaves the last record.
	s = c.call(21, 0, wire{}.i32(1).str("raw").i32(1).i32(1).i64(-1).i32(5000))
	s.i32()
	s.i32()
	s.str()
	s.i32()
	s.i32()
	if low, code := s.i64(), s.i16(); low != 5 || code != 0 {
		t.Errorf("delete records: low watermark %d, code %d", low, code)
	}
	if first := c.listOffset("raw", 1, -2); first != 5 {
		t.Errorf("log begins at %d", first)
	}
	check(c.fetch("raw", 1, 5), 5)

	// What franz-go reads is the same, before and after a kill.
	wantValues(t, readAll(t, b.Addr(), "raw", 1), "six")
	after := start(t, crashCopy(t, dir), func(c *Config) { c.Listen = "127.0.0.1:0" })
	c = dialRaw(t, after.Addr())
	if first, end := c.listOffset("raw", 1, -2), c.listOffset("raw", 1, -1); first != 5 || end != 6 {
		t.Errorf("after a kill the log is [%d, %d)", first, end)
	}
	if code, base := c.produce("raw", 1, batch); code != 0 || base != 5 {
		t.Errorf("after a kill, a retry of what was stored: code %d, offset %d", code, base)
	}
	check(c.fetch("raw", 1, 5), 5)
}
