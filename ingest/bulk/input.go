package bulk

import (
	"fmt"
	"io"
	"math"
	"os"
)

const spoolBytesDefault = 16 << 30

// SpoolOptions bound the temporary copy of an input that can be read only once.
type SpoolOptions struct {
	Dir      string // where the copy goes; "" means os.TempDir
	MaxBytes int64  // most bytes to copy, as they come (compressed stays compressed); 0 means 16 GiB
}

// Input is an input that can be read any number of times, as [Scan] and [Plan.Replay] need. Open and Size are safe for
// concurrent use.
type Input struct {
	file *os.File
	size int64
	temp string // name of the copy, as long as it has one
}

// OpenInput opens the file of that name, or takes stdin for the name "-". A regular file is read where it is. Anything else
// (standard input, a named pipe, a device) is first copied to a temporary file that Close removes; on Unix the copy loses its
// name at once, so that nothing stays behind when the process is killed. The error is an [*Error] when the copy would be too
// large.
func OpenInput(name string, stdin io.Reader, spool SpoolOptions) (*Input, error) {
	if name == "-" {
		in, err := copyInput(stdin, spool)
		if err != nil {
			return nil, fmt.Errorf("copying standard input to a temporary file: %w", err)
		}
		return in, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("opening the input: %w", err)
	}
	in, err := fileInput(f, spool)
	if err != nil {
		return nil, fmt.Errorf("opening the input %s: %w", name, err)
	}
	return in, nil
}

// fileInput takes over f.
func fileInput(f *os.File, spool SpoolOptions) (*Input, error) {
	info, err := f.Stat()
	if err == nil && info.Mode().IsRegular() {
		return &Input{file: f, size: info.Size()}, nil
	}
	defer f.Close() // only read from
	if err != nil {
		return nil, err
	}
	return copyInput(f, spool)
}

func copyInput(r io.Reader, spool SpoolOptions) (*Input, error) {
	limit := spool.MaxBytes
	if limit <= 0 {
		limit = spoolBytesDefault
	}
	limit = min(limit, math.MaxInt64-1) // one byte more tells an input that fits from one that does not
	f, err := os.CreateTemp(spool.Dir, "tidemark-load-*")
	if err != nil {
		return nil, err
	}
	in := &Input{file: f, temp: f.Name()}
	if os.Remove(in.temp) == nil {
		in.temp = ""
	}
	if in.size, err = io.Copy(f, io.LimitReader(r, limit+1)); err == nil && in.size > limit {
		err = &Error{
			Code: CodeInputTooLarge, Index: -1,
			Detail: fmt.Sprintf("the input has more than %d bytes, the most that is copied to a temporary file", limit),
			Hint:   "Write it to a file and load that.",
		}
	}
	if err != nil {
		_ = in.Close() // the first error says more
		return nil, err
	}
	return in, nil
}

// Open gives the input from its first byte. Several may be open at once; each has its own position. Close the Input last.
func (in *Input) Open() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(in.file, 0, in.size)), nil
}

// Size is the number of bytes that Open's reader gives: the size of the file when it was opened, or of the copy.
func (in *Input) Size() int64 { return in.size }

// Close closes the file and removes the copy.
func (in *Input) Close() error {
	err := in.file.Close()
	if in.temp != "" {
		if rm := os.Remove(in.temp); err == nil {
			err = rm
		}
	}
	if err != nil {
		return fmt.Errorf("closing the input: %w", err)
	}
	return nil
}
