package bulk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

const twoRecords = "{\"id\":1}\n{\"id\":1}\n"

// twice loads an input in its two passes.
func twice(t *testing.T, in *Input) {
	t.Helper()
	p, err := Scan(in.Open, Options{IDField: "id"})
	if err != nil {
		t.Fatal(err)
	}
	if p.Bytes != in.Size() {
		t.Errorf("the plan has seen %d of %d bytes", p.Bytes, in.Size())
	}
	again, err := in.Open()
	if err != nil {
		t.Fatal(err)
	}
	y, err := p.Replay(again)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := y.Next()
	if err != nil || rec.Index != 1 {
		t.Fatalf("got %+v, %v", rec, err)
	}
	if _, err := y.Next(); err != io.EOF {
		t.Fatalf("got %v", err)
	}
	if err := errors.Join(again.Close(), in.Close()); err != nil {
		t.Fatal(err)
	}
}

func empty(t *testing.T, dir string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		t.Errorf("%s is left behind", f.Name())
	}
}

func TestOpenInput_RegularFileIsReadInPlace(t *testing.T) {
	name, spool := filepath.Join(t.TempDir(), "f"), t.TempDir()
	if err := os.WriteFile(name, []byte(zip(t, twoRecords)), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := OpenInput(name, nil, SpoolOptions{Dir: spool, MaxBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	// Another file of that name is another input: both passes read the one that was opened.
	if err := os.Rename(name, name+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	twice(t, in)
	empty(t, spool)
}

func TestOpenInput_StandardInputIsSpooled(t *testing.T) {
	spool := t.TempDir()
	in, err := OpenInput("-", strings.NewReader(twoRecords), SpoolOptions{Dir: spool, MaxBytes: int64(len(twoRecords))})
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" {
		empty(t, spool) // so that nothing is left by a process that is killed
	}
	twice(t, in)
	empty(t, spool)
}

func TestOpenInput_WhatCannotBeRewoundIsSpooled(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := io.WriteString(w, twoRecords)
		wrote <- errors.Join(err, w.Close())
	}()
	spool := t.TempDir()
	in, err := fileInput(r, SpoolOptions{Dir: spool})
	if err := errors.Join(err, <-wrote); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the pipe is still open: %v", err)
	}
	twice(t, in)
	empty(t, spool)
}

func TestOpenInput_SpoolIsBounded(t *testing.T) {
	spool := t.TempDir()
	_, err := OpenInput("-", strings.NewReader(twoRecords), SpoolOptions{Dir: spool, MaxBytes: int64(len(twoRecords)) - 1})
	if e := fault(t, err, CodeInputTooLarge); !strings.Contains(e.Detail, "17 bytes") {
		t.Error(e)
	}
	empty(t, spool)
}

func TestOpenInput_Errors(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenInput(filepath.Join(dir, "none"), nil, SpoolOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such file: %v", err)
	}
	if _, err := OpenInput(dir, nil, SpoolOptions{Dir: dir}); err == nil {
		t.Error("a directory is taken")
	}
	broken := errors.New("broken")
	if _, err := OpenInput("-", iotest.ErrReader(broken), SpoolOptions{Dir: dir}); !errors.Is(err, broken) {
		t.Errorf("standard input fails: %v", err)
	}
	if _, err := OpenInput("-", strings.NewReader(""), SpoolOptions{Dir: filepath.Join(dir, "none")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no temporary directory: %v", err)
	}
	empty(t, dir)
}
