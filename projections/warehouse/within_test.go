package warehouse

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"
)

// The bound that was meant is the one that the server has, whatever deadline the caller has; and the driver does not put its own in place.
func TestWithin_TheServerHasTheBound(t *testing.T) {
	w := open(t, func(c *Config) { c.Timeout = 90 * time.Second })
	bound := func(ctx context.Context) string {
		t.Helper()
		rows, err := w.conn.Query(ctx, "SELECT toString(getSetting('max_execution_time'))")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var got string
		for rows.Next() {
			if err := rows.Scan(&got); err != nil {
				t.Fatal(err)
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return got
	}
	later, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for name, parent := range map[string]context.Context{"no deadline": t.Context(), "a later deadline": later} {
		ctx, cancel := w.context(parent, "test", nil)
		if got := bound(ctx); got != "90" {
			t.Errorf("%s: a statement may take %s s, want 90", name, got)
		}
		cancel()
	}
	near, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	ctx, cancel := w.context(near, "test", nil)
	defer cancel()
	if got, err := strconv.ParseFloat(bound(ctx), 64); err != nil || got <= 20 || got > 40 {
		t.Errorf("40 s before the caller's deadline a statement may take %v s, %v", got, err)
	}
	ctx, cancel = w.long(t.Context(), "test")
	defer cancel()
	if got := bound(ctx); got != "7200" {
		t.Errorf("a long statement may take %s s, want 7200", got)
	}
}

// The server ends what takes too long, and says so; if it does not answer at all the client ends it, and it was not the caller.
func TestWithin_WhatTakesTooLong(t *testing.T) {
	const limit = 300 * time.Millisecond
	short := func(c *Config) { c.Timeout = limit }
	err := open(t, short).exec(t.Context(), "test", "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number)) FORMAT Null")
	if code, _ := Code(err); code != 159 || Classify(err) != Transient {
		t.Errorf("a slow statement ends with %v, want code 159, TIMEOUT_EXCEEDED", err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, by its backlog
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	w, err := Open(Config{DSN: "http://" + silent.Addr().String() + "/", Timeout: limit})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	start := time.Now()
	if err := w.exec(t.Context(), "test", "SELECT 1"); err == nil || Classify(err) != Transient || time.Since(start) > time.Minute {
		t.Errorf("a silent server: %v: %v after %v", Classify(err), err, time.Since(start))
	}
}
