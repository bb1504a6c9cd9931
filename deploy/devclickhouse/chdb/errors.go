package chdb

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// ErrPlatform says that libchdb cannot be loaded by a binary for this system.
var ErrPlatform = errors.New("libchdb runs on linux and darwin, amd64 and arm64")

// ErrConnect says that the library refused a connection. Why is in a line that it writes to the standard error of the process.
var ErrConnect = errors.New("libchdb refused the connection")

// Error is an exception of the engine.
type Error struct {
	// Code is the engine's number for the kind of error, 0 if it gave none.
	Code int
	// Message is the whole text, beginning with "Code: N. DB::Exception: ".
	Message string
}

func (e *Error) Error() string { return e.Message }

var codePrefix = regexp.MustCompile(`^(?:Error: )?Code: (\d+)\. (?:DB::[A-Za-z]*Exception: )?`)

// newError reads the text of an exception. The library sometimes puts a second prefix before that of the engine; one remains.
func newError(text string) *Error {
	text = strings.TrimSpace(text)
	e := &Error{Message: text}
	rest := text
	for {
		m := codePrefix.FindStringSubmatch(rest)
		if m == nil {
			break
		}
		// The innermost is what was thrown; what stands around it only passed it on.
		if code, err := strconv.Atoi(m[1]); err == nil && code != 0 {
			e.Code = code
		}
		rest = rest[len(m[0]):]
	}
	if e.Code != 0 {
		e.Message = fmt.Sprintf("Code: %d. DB::Exception: %s", e.Code, rest)
	}
	return e
}

// Class is what a statement does to state that outlives it.
type Class uint32

// The classes of chdb_query_class, in ascending order of how restricted the statement is.
const (
	ReadOnly       Class = iota // SELECT, SHOW, DESCRIBE, EXPLAIN, EXISTS, CHECK
	Mutating                    // changes a database
	MutatingGlobal              // changes what is beside the databases: functions, named collections
	Control                     // SET, USE, SYSTEM, KILL, BACKUP, writing to files
	Unknown                     // did not parse, or is not known to this version
)

// Analysis is what the engine's parser finds in a text.
type Analysis struct {
	// Statements counts those that would run, the arms of PARALLEL WITH included; 0 if the text does not parse.
	Statements int
	// Class is the most restricted one of them.
	Class Class
}

// Param is the value of a placeholder {Name:Type} in a statement, as text that the engine reads as the type.
type Param struct{ Name, Value string }

// Stats are what the engine counted while it ran a statement.
type Stats struct {
	ResultRows, ResultBytes   uint64
	StorageRows, StorageBytes uint64
	WrittenRows, WrittenBytes uint64
	ElapsedSeconds            float64
}

// Add sums the counts of the parts of one statement.
func (s *Stats) Add(o Stats) {
	s.ResultRows += o.ResultRows
	s.ResultBytes += o.ResultBytes
	s.StorageRows += o.StorageRows
	s.StorageBytes += o.StorageBytes
	s.WrittenRows += o.WrittenRows
	s.WrittenBytes += o.WrittenBytes
	s.ElapsedSeconds += o.ElapsedSeconds
}
