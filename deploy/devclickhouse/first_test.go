package devclickhouse_test

import (
	"context"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chtest"
)

func TestFirst(t *testing.T) {
	s := chtest.Start(t)
	t.Logf("%+v %s", s.State(), s.DSN(false))
	opt, err := clickhouse.ParseDSN(s.DSN(false))
	if err != nil {
		t.Fatal(err)
	}
	c, err := clickhouse.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	if err := c.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Exec(ctx, "CREATE TABLE t (a UInt32, s String) ENGINE=MergeTree ORDER BY a"); err != nil {
		t.Fatal(err)
	}
	b, err := c.PrepareBatch(ctx, "INSERT INTO t")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if err := b.Append(uint32(i), "a\n\nb;"); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Send(); err != nil {
		t.Fatal(err)
	}
	var n uint64
	if err := c.QueryRow(ctx, "SELECT count() FROM t WHERE a < $1", 500).Scan(&n); err != nil || n != 500 {
		t.Fatal(n, err)
	}
	for _, q := range []string{"SELECT name,value,changed FROM system.settings WHERE name IN ('async_insert','mutations_sync','max_bytes_before_external_group_by')",
		"SELECT name,value FROM system.server_settings WHERE name IN ('max_server_memory_usage','mark_cache_size','background_pool_size','tmp_path','users_config')",
		"SELECT file('/etc/passwd'), '', ''", "SELECT file('/proc/self/environ'),'',''", "SELECT * FROM url('http://127.0.0.1:1/','CSV','a String,b String,c String')"} {
		rows, err := c.Query(ctx, q)
		if err != nil {
			t.Log(q, err)
			continue
		}
		for rows.Next() {
			var a, b, d any
			_ = d
			a, b = new(string), new(string)
			if len(rows.Columns()) == 2 {
				rows.Scan(a, b)
			} else {
				x := new(uint8)
				rows.Scan(a, b, x)
			}
			t.Log(*a.(*string), *b.(*string))
		}
	}
}
