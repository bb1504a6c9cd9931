package bridge

import "strings"

// concatenable reports whether a result in this format is the same when it is the parts, each formatted as a whole document, one
// after the other.
func concatenable(format string) bool {
	switch format {
	case "Native", "TabSeparated", "TSV", "TabSeparatedRaw", "TSVRaw", "Raw", "CSV", "JSONEachRow", "JSONLines", "NDJSON",
		"JSONCompactEachRow", "JSONStringsEachRow", "JSONCompactStringsEachRow", "RowBinary", "LineAsString", "RawBLOB", "Values",
		"TSKV", "Null":
		return format != "Values" // a comma stands between rows
	}
	return false
}

// contentType is the media type of a format, as ClickHouse names it.
func contentType(format string) string {
	switch {
	case strings.HasPrefix(format, "TabSeparated"), strings.HasPrefix(format, "TSV"):
		return "text/tab-separated-values; charset=UTF-8"
	case strings.HasPrefix(format, "CSV"):
		if strings.Contains(format, "WithNames") {
			return "text/csv; charset=UTF-8; header=present"
		}
		return "text/csv; charset=UTF-8; header=absent"
	case strings.HasSuffix(format, "EachRow"), strings.HasPrefix(format, "JSON") && strings.Contains(format, "EachRow"),
		format == "JSONLines", format == "NDJSON":
		return "application/x-ndjson; charset=UTF-8"
	case strings.HasPrefix(format, "JSON"):
		return "application/json; charset=UTF-8"
	case format == "XML":
		return "application/xml; charset=UTF-8"
	case format == "Markdown":
		return "text/markdown; charset=UTF-8"
	case format == "Native", strings.HasPrefix(format, "RowBinary"), format == "Parquet", format == "ORC", format == "Avro",
		strings.HasPrefix(format, "Arrow"), format == "MsgPack", strings.HasPrefix(format, "Protobuf"):
		return "application/octet-stream"
	}
	return "text/plain; charset=UTF-8"
}
