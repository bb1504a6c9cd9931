package devclickhouse

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"path/filepath"
	"strings"
)

const (
	mib = int64(1) << 20

	// engineShare is the part of the child's memory that the engine may use by its own count. Resident memory has been seen at
	// one and a half times that count, and the mapped library and the bridge come on top.
	engineShare = 2

	backgroundPool = 2
	ioThreads      = 8
)

// engineLimit is the engine's own bound, in bytes.
func engineLimit(memory int64) int64 { return memory / engineShare }

// engineConfig returns the engine's configuration. dir is the whole directory, memory what the child should stay within. Where the
// engine's defaults are meant for a big server they are made small; the rest is left as a server has it.
func engineConfig(dir string, memory int64) []byte {
	limit := engineLimit(memory)
	var b bytes.Buffer
	b.WriteString("<clickhouse>\n")
	for _, e := range []struct {
		name  string
		value int64
	}{
		{"max_server_memory_usage", limit},
		{"mark_cache_size", clamp(limit/8, 16*mib, 512*mib)},
		{"primary_index_cache_size", clamp(limit/16, 8*mib, 256*mib)},
		{"uncompressed_cache_size", 0},
		{"compiled_expression_cache_size", 16 * mib},
		{"max_thread_pool_free_size", 4}, // threads that have nothing to do end
		{"max_io_thread_pool_size", ioThreads},
		{"background_pool_size", backgroundPool},
		{"background_schedule_pool_size", backgroundPool},
		{"background_common_pool_size", backgroundPool},
	} {
		fmt.Fprintf(&b, "  <%s>%d</%s>\n", e.name, e.value, e.name)
	}
	// A batch that is sent again after a lost answer is dropped by its token, on tables that have no replicas either.
	b.WriteString("  <merge_tree><non_replicated_deduplication_window>1000</non_replicated_deduplication_window></merge_tree>\n")
	fmt.Fprintf(&b, "  <backups><allowed_path>%s/</allowed_path></backups>\n", xmlText(filepath.Join(dir, backupDir)))
	fmt.Fprintf(&b, "  <tmp_path>%s/</tmp_path>\n", xmlText(filepath.Join(dir, tmpDir)))
	fmt.Fprintf(&b, "  <users_config>%s</users_config>\n", xmlText(filepath.Join(dir, usersFile)))
	b.WriteString("</clickhouse>\n")
	return b.Bytes()
}

// usersConfig returns the settings that every statement starts from: those that differ between versions of ClickHouse and would
// change what a caller sees (implicit_select is on in the library, as in clickhouse-local, and off in a server), and bounds that have a big GROUP BY or ORDER BY use the disk where it would have run out of memory.
//
// By default the engine gives a query one thread for each free GiB of its memory, which here would be one thread, whatever the machine has. A
// binary is not told otherwise: it may be older, and one does not start with a setting that it does not know.
func usersConfig(memory int64, binary bool) []byte {
	limit := engineLimit(memory)
	spill := limit / 4
	threads := ""
	if !binary {
		threads = fmt.Sprintf("\n    <max_threads_min_free_memory_per_thread>%d</max_threads_min_free_memory_per_thread>", limit/16)
	}
	return fmt.Appendf(nil, `<clickhouse>
  <profiles><default>
    <async_insert>0</async_insert>
    <mutations_sync>1</mutations_sync>
    <implicit_select>0</implicit_select>
    <max_bytes_before_external_group_by>%[1]d</max_bytes_before_external_group_by>
    <max_bytes_before_external_sort>%[1]d</max_bytes_before_external_sort>%[2]s
  </default></profiles>
  <users><default>
    <password></password>
    <networks><ip>::/0</ip></networks>
    <profile>default</profile>
    <quota>default</quota>
  </default></users>
  <quotas><default></default></quotas>
</clickhouse>
`, spill, threads)
}

func clamp(n, low, high int64) int64 { return max(low, min(n, high)) }

func xmlText(s string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(s)); err != nil {
		panic(err) // a strings.Builder takes everything
	}
	return b.String()
}
