//go:build !((linux || darwin) && (amd64 || arm64))

package chdb

// Library, Conn, Result, Stream and Insert cannot come into being on this system; see the other declarations.
type (
	Library struct{}
	Conn    struct{}
	Result  struct{}
	Stream  struct{}
	Insert  struct{}
)

// Open returns ErrPlatform.
func Open(string) (*Library, error) { return nil, ErrPlatform }

func (*Library) Version() string                               { return "" }
func (*Library) Connect(...string) (*Conn, error)              { return nil, ErrPlatform }
func (*Conn) Close()                                           {}
func (*Conn) Query(string, string, ...Param) (*Result, error)  { return nil, ErrPlatform }
func (*Conn) Stream(string, string, ...Param) (*Stream, error) { return nil, ErrPlatform }
func (*Conn) Insert(string, string, ...Param) (*Insert, error) { return nil, ErrPlatform }
func (*Conn) Classify(string) (Analysis, error)                { return Analysis{}, ErrPlatform }
func (*Result) Bytes() []byte                                  { return nil }
func (*Result) Stats() Stats                                   { return Stats{} }
func (*Result) Close()                                         {}
func (*Stream) Next() (*Result, error)                         { return nil, ErrPlatform }
func (*Stream) Close()                                         {}
func (*Insert) Append([]byte) error                            { return ErrPlatform }
func (*Insert) Done() (Stats, error)                           { return Stats{}, ErrPlatform }
func (*Insert) Close()                                         {}
