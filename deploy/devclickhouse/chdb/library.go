//go:build (linux || darwin) && (amd64 || arm64)

package chdb

import (
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
)

// The C functions, with their types. A size_t is a uintptr here; an opaque handle is an unsafe.Pointer into memory of the
// library, which the garbage collector leaves alone.
type functions struct {
	version           func() string
	setSignalHandlers func(enabled int32)

	connect  func(argc int32, argv unsafe.Pointer) unsafe.Pointer
	close    func(conn unsafe.Pointer)
	classify func(conn, sql unsafe.Pointer, sqlLen uintptr, db unsafe.Pointer, dbLen uintptr, out unsafe.Pointer) int32

	query  func(conn, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, count uintptr) unsafe.Pointer
	stream func(conn, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, count uintptr) unsafe.Pointer
	fetch  func(conn, stream unsafe.Pointer) unsafe.Pointer
	cancel func(conn, stream unsafe.Pointer)

	insert        func(conn, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, count uintptr) unsafe.Pointer
	appendData    func(insert, data unsafe.Pointer, n uintptr) int32
	done          func(insert unsafe.Pointer) unsafe.Pointer
	cancelInsert  func(insert unsafe.Pointer)
	insertError   func(insert unsafe.Pointer) string
	destroyInsert func(insert unsafe.Pointer)

	destroy      func(result unsafe.Pointer)
	errorText    func(result unsafe.Pointer) string
	buffer       func(result unsafe.Pointer) unsafe.Pointer
	length       func(result unsafe.Pointer) uintptr
	elapsed      func(result unsafe.Pointer) float64
	rowsRead     func(result unsafe.Pointer) uint64
	bytesRead    func(result unsafe.Pointer) uint64
	storageRows  func(result unsafe.Pointer) uint64
	storageBytes func(result unsafe.Pointer) uint64
	rowsWritten  func(result unsafe.Pointer) uint64
	bytesWritten func(result unsafe.Pointer) uint64
}

// Library is the loaded libchdb.
type Library struct{ fn functions }

var (
	openMu sync.Mutex
	opened *Library
	openAt string
)

// Open loads the library at path and turns its signal handlers off. Loading it a second time returns the first; loading another
// one in the same process is an error.
func Open(path string) (*Library, error) {
	openMu.Lock()
	defer openMu.Unlock()
	if opened != nil {
		if openAt != path {
			return nil, fmt.Errorf("loading %s: %s is loaded already, and a process has one engine", path, openAt)
		}
		return opened, nil
	}
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("loading %s: %w", path, err)
	}
	l := &Library{}
	f := &l.fn
	for name, fn := range map[string]any{
		"chdb_version":                     &f.version,
		"chdb_set_signal_handlers_enabled": &f.setSignalHandlers,
		"chdb_connect":                     &f.connect,
		"chdb_close_conn":                  &f.close,
		"chdb_classify_query_n":            &f.classify,
		"chdb_query_with_params_n":         &f.query,
		"chdb_stream_query_with_params_n":  &f.stream,
		"chdb_stream_fetch_result":         &f.fetch,
		"chdb_stream_cancel_query":         &f.cancel,
		"chdb_stream_insert_with_params_n": &f.insert,
		"chdb_stream_append":               &f.appendData,
		"chdb_stream_done":                 &f.done,
		"chdb_stream_cancel_insert":        &f.cancelInsert,
		"chdb_stream_insert_error":         &f.insertError,
		"chdb_destroy_insert_stream":       &f.destroyInsert,
		"chdb_destroy_query_result":        &f.destroy,
		"chdb_result_error":                &f.errorText,
		"chdb_result_buffer":               &f.buffer,
		"chdb_result_length":               &f.length,
		"chdb_result_elapsed":              &f.elapsed,
		"chdb_result_rows_read":            &f.rowsRead,
		"chdb_result_bytes_read":           &f.bytesRead,
		"chdb_result_storage_rows_read":    &f.storageRows,
		"chdb_result_storage_bytes_read":   &f.storageBytes,
		"chdb_result_rows_written":         &f.rowsWritten,
		"chdb_result_bytes_written":        &f.bytesWritten,
	} {
		symbol, err := purego.Dlsym(handle, name)
		if err != nil {
			return nil, fmt.Errorf("loading %s: it is not a libchdb of the version needed: %w", path, err)
		}
		purego.RegisterFunc(fn, symbol)
	}
	f.setSignalHandlers(0)
	opened, openAt = l, path
	return l, nil
}

// Version is the library's own version, such as "26.7.2.1".
func (l *Library) Version() string { return l.fn.version() }

// Connect opens a connection with arguments as of the command line, without the program's name: "--path=DIR" and settings as
// "--name=value". The first connection of the process starts the engine, and is the one that server options count for. It
// returns ErrConnect without a reason, which the library only logs.
func (l *Library) Connect(args ...string) (*Conn, error) {
	argv := make([]*byte, 0, len(args)+2)
	for _, arg := range append([]string{"clickhouse"}, args...) {
		c := append([]byte(arg), 0)
		argv = append(argv, &c[0])
	}
	argc := len(argv)
	argv = append(argv, nil)
	handle := l.fn.connect(int32(argc), unsafe.Pointer(&argv[0]))
	runtime.KeepAlive(argv)
	if handle == nil {
		return nil, ErrConnect
	}
	return &Conn{lib: l, handle: handle}, nil
}

// text returns a string's bytes for the length of a call. The caller keeps s alive.
func text(s string) (unsafe.Pointer, uintptr) {
	return unsafe.Pointer(unsafe.StringData(s)), uintptr(len(s))
}

// paramArrays are parameters in the form that the C functions take them.
type paramArrays struct {
	names, values       []unsafe.Pointer
	nameLens, valueLens []uintptr
	empty               byte
}

func newParamArrays(params []Param) *paramArrays {
	a := &paramArrays{}
	for _, p := range params {
		a.names, a.nameLens = a.add(a.names, a.nameLens, p.Name)
		a.values, a.valueLens = a.add(a.values, a.valueLens, p.Value)
	}
	return a
}

// add never adds a null pointer, which an empty string's would be: the library refuses it.
func (a *paramArrays) add(to []unsafe.Pointer, lens []uintptr, s string) ([]unsafe.Pointer, []uintptr) {
	p, n := text(s)
	if n == 0 {
		p = unsafe.Pointer(&a.empty)
	}
	return append(to, p), append(lens, n)
}

func (a *paramArrays) pointers() (names, nameLens, values, valueLens unsafe.Pointer, count uintptr) {
	if len(a.names) == 0 {
		return nil, nil, nil, nil, 0
	}
	return unsafe.Pointer(&a.names[0]), unsafe.Pointer(&a.nameLens[0]), unsafe.Pointer(&a.values[0]), unsafe.Pointer(&a.valueLens[0]), uintptr(len(a.names))
}
