package bridge

import (
	"encoding/binary"
	"strings"
)

// helloQuery is what clickhouse-go asks first on every connection over HTTP (conn_http.go, queryHello). It reads the answer as a
// block of the protocol revision that it names in the request, and every block after it as one of the revision that the
// answer states. libchdb writes Native at revision 0 and cannot be asked for another one, so the bridge gives this one answer
// itself, and states 0.
const helloQuery = "SELECT displayName(), version(), revision(), timezone()"

// isHello tells the query by its exact text: anything else is the engine's to answer.
func isHello(sql []byte, format string) bool {
	return format == "Native" && strings.TrimSpace(string(sql)) == helloQuery
}

// helloBlock is the answer as one Native block of revision 54454 or later: with block info, and with a byte after each column's
// type that says how it is serialized, 0 for plainly.
func helloBlock(displayName, version, timezone string) []byte {
	b := []byte{
		1, 0, // field 1 of the block info: is_overflows, no
		2, 0xff, 0xff, 0xff, 0xff, // field 2: bucket_num, -1
		0,    // end of the block info
		4, 1, // columns, rows
	}
	str := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	column := func(name, kind string) {
		str(name)
		str(kind)
		b = append(b, 0)
	}
	column("displayName()", "String")
	str(displayName)
	column("version()", "String")
	str(version)
	column("revision()", "UInt32")
	b = binary.LittleEndian.AppendUint32(b, 0)
	column("timezone()", "String")
	str(timezone)
	return b
}
