//go:build (linux || darwin) && (amd64 || arm64)

package chdb

import (
	"errors"
	"runtime"
	"unsafe"
)

// Conn is a connection to the engine: a session with settings, a current database and temporary tables of its own.
type Conn struct {
	lib    *Library
	handle unsafe.Pointer // chdb_connection *
}

// inner is what the functions take: the connection that the handle points to.
func (c *Conn) inner() unsafe.Pointer { return *(*unsafe.Pointer)(c.handle) }

// Close ends the session. The engine stops with its last connection. Results outlive it; streams and inserts do not.
func (c *Conn) Close() {
	if c.handle != nil {
		c.lib.fn.close(c.handle)
		c.handle = nil
	}
}

type caller func(conn, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, count uintptr) unsafe.Pointer

func (c *Conn) call(fn caller, sql, format string, params []Param) unsafe.Pointer {
	arrays := newParamArrays(params)
	names, nameLens, values, valueLens, count := arrays.pointers()
	sqlText, sqlLen := text(sql)
	formatText, formatLen := text(format)
	handle := fn(c.inner(), sqlText, sqlLen, formatText, formatLen, names, nameLens, values, valueLens, count)
	runtime.KeepAlive(sql)
	runtime.KeepAlive(format)
	runtime.KeepAlive(params)
	runtime.KeepAlive(arrays)
	return handle
}

// Query runs one statement and returns its whole result in the format. An [*Error] is the engine's.
func (c *Conn) Query(sql, format string, params ...Param) (*Result, error) {
	return c.lib.result(c.call(c.lib.fn.query, sql, format, params))
}

// Stream runs a SELECT whose result comes in parts, each a whole document in the format.
func (c *Conn) Stream(sql, format string, params ...Param) (*Stream, error) {
	handle := c.call(c.lib.fn.stream, sql, format, params)
	if text := c.lib.fn.errorText(handle); text != "" {
		c.lib.fn.destroy(handle)
		return nil, newError(text)
	}
	return &Stream{conn: c, handle: handle}, nil
}

// Insert begins an INSERT whose data follows. sql is the statement up to, and without, its FORMAT or VALUES.
func (c *Conn) Insert(sql, format string, params ...Param) (*Insert, error) {
	i := &Insert{lib: c.lib, handle: c.call(c.lib.fn.insert, sql, format, params)}
	if text := c.lib.fn.insertError(i.handle); text != "" {
		i.Close()
		return nil, newError(text)
	}
	return i, nil
}

// Classify parses sql without running it.
func (c *Conn) Classify(sql string) (Analysis, error) {
	// chdb_query_analysis_v1
	var out struct{ size, statements, flags, class uint32 }
	out.size = uint32(unsafe.Sizeof(out))
	sqlText, sqlLen := text(sql)
	state := c.lib.fn.classify(c.inner(), sqlText, sqlLen, nil, 0, unsafe.Pointer(&out))
	runtime.KeepAlive(sql)
	if state != 0 {
		return Analysis{}, errors.New("classifying a statement: the library refused")
	}
	return Analysis{Statements: int(out.statements), Class: Class(out.class)}, nil
}

// Result is the result of a statement, or a part of one, in memory of the library.
type Result struct {
	lib    *Library
	handle unsafe.Pointer
}

// result takes over a handle, and frees it if it is an error.
func (l *Library) result(handle unsafe.Pointer) (*Result, error) {
	if handle == nil {
		return nil, errors.New("the library returned no result")
	}
	if text := l.fn.errorText(handle); text != "" {
		l.fn.destroy(handle)
		return nil, newError(text)
	}
	return &Result{lib: l, handle: handle}, nil
}

// Bytes is the formatted result. It is valid until Close.
func (r *Result) Bytes() []byte {
	n := r.lib.fn.length(r.handle)
	p := r.lib.fn.buffer(r.handle)
	if p == nil || n == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(p), n)
}

// Stats are the engine's counts for the result.
func (r *Result) Stats() Stats {
	f := &r.lib.fn
	return Stats{
		ResultRows: f.rowsRead(r.handle), ResultBytes: f.bytesRead(r.handle),
		StorageRows: f.storageRows(r.handle), StorageBytes: f.storageBytes(r.handle),
		WrittenRows: f.rowsWritten(r.handle), WrittenBytes: f.bytesWritten(r.handle),
		ElapsedSeconds: f.elapsed(r.handle),
	}
}

// Close frees the result.
func (r *Result) Close() {
	if r.handle != nil {
		r.lib.fn.destroy(r.handle)
		r.handle = nil
	}
}

// Stream is a running SELECT.
type Stream struct {
	conn   *Conn
	handle unsafe.Pointer
	ended  bool
}

// Next returns the next part, or nil at the end.
func (s *Stream) Next() (*Result, error) {
	if s.ended {
		return nil, nil
	}
	r, err := s.conn.lib.result(s.conn.lib.fn.fetch(s.conn.inner(), s.handle))
	if err != nil {
		s.ended = true
		return nil, err
	}
	if r.lib.fn.length(r.handle) == 0 {
		s.ended = true
		r.Close()
		return nil, nil
	}
	return r, nil
}

// Close stops the statement if it is still running, and frees the stream.
func (s *Stream) Close() {
	if s.handle == nil {
		return
	}
	if !s.ended {
		s.conn.lib.fn.cancel(s.conn.inner(), s.handle)
	}
	s.conn.lib.fn.destroy(s.handle)
	s.handle = nil
}

// Insert is an INSERT that takes data.
type Insert struct {
	lib    *Library
	handle unsafe.Pointer
}

// Append hands over a piece of the data; where a piece ends has no meaning. It blocks while the engine is behind. The library
// copies p.
func (i *Insert) Append(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if i.lib.fn.appendData(i.handle, unsafe.Pointer(&p[0]), uintptr(len(p))) == 0 {
		return nil
	}
	if text := i.lib.fn.insertError(i.handle); text != "" {
		return newError(text)
	}
	return errors.New("appending to an insert: the library refused")
}

// Done ends the data and waits until it is stored. The result holds only counts.
func (i *Insert) Done() (Stats, error) {
	r, err := i.lib.result(i.lib.fn.done(i.handle))
	if err != nil {
		return Stats{}, err
	}
	defer r.Close()
	return r.Stats(), nil
}

// Close frees the insert. Without Done before it, what is not stored yet is dropped: everything, up to the engine's block size.
func (i *Insert) Close() {
	if i.handle == nil {
		return
	}
	i.lib.fn.cancelInsert(i.handle) // does nothing after Done
	i.lib.fn.destroyInsert(i.handle)
	i.handle = nil
}
