package library

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	progressInterval = 200 * time.Millisecond
	lockPoll         = 50 * time.Millisecond
	maxClientOutput  = 4 << 10
)

// Progress is how far a fetch has come. Bytes never exceeds Total within one step.
type Progress struct {
	Step  string // "download" or "unpack"
	Bytes int64
	Total int64
}

// Options of [Fetch]. The zero value is the ordinary fetch.
type Options struct {
	// Dir is the folder to fill, by default [CacheDir].
	Dir string
	// Tarball is the path of the package, for a machine without a network; empty has npm download it.
	Tarball string
	// Progress is called from one goroutine at a time, a few times a second; nil for none.
	Progress func(Progress)
	// Download puts the package's tarball into dir and returns its path; nil for npm. Its context ends with Fetch's.
	Download func(ctx context.Context, dir, spec string) (path string, err error)
	// FreeBytes reports the free space of the file system that holds dir; nil asks the kernel.
	FreeBytes func(dir string) (int64, error)

	platform *platform // of a test
}

// Fetch puts the pinned library into the cache, unless it is there, and returns its path. Every error is an [*Error].
func Fetch(ctx context.Context, o Options) (string, error) {
	path, err := fetch(ctx, o)
	if err != nil {
		if typed := (*Error)(nil); errors.As(err, &typed) {
			return "", err
		}
		return "", &Error{fmt.Errorf("fetching the ClickHouse library: %w", err)}
	}
	return path, nil
}

func fetch(ctx context.Context, o Options) (_ string, err error) {
	p := o.platform
	if p == nil {
		here, err := current()
		if err != nil {
			return "", err
		}
		p = &here
	}
	if o.Dir == "" {
		if o.Dir, err = CacheDir(); err != nil {
			return "", err
		}
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.Download == nil {
		o.Download = npmPack
	}
	if o.FreeBytes == nil {
		o.FreeBytes = freeBytes
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return "", fmt.Errorf("creating the cache: %w", err)
	}
	release, err := lockFile(ctx, filepath.Join(o.Dir, lockName))
	if err != nil {
		return "", err
	}
	defer release()
	if path, err := findIn(o.Dir, *p); err == nil { // another process was faster
		return path, nil
	}
	need := p.libraryBytes
	if o.Tarball == "" {
		need += 2 * p.tarballBytes // the client's own copy and ours
	}
	free, err := o.FreeBytes(o.Dir)
	if err != nil {
		return "", err
	}
	if free < need {
		return "", fmt.Errorf("%w: %s has %d MB free and %d MB are needed", ErrNoSpace, o.Dir, free>>20, need>>20)
	}
	staging, err := os.MkdirTemp(o.Dir, "fetch-")
	if err != nil {
		return "", fmt.Errorf("creating a folder in the cache: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(staging)) }()

	tarball := o.Tarball
	if tarball == "" {
		if tarball, err = download(ctx, o, *p, staging); err != nil {
			return "", err
		}
	}
	unpacked := filepath.Join(staging, fileName)
	if err := unpack(ctx, tarball, unpacked, *p, o.Progress); err != nil {
		return "", err
	}
	return install(o.Dir, unpacked, *p)
}

// download runs the client, and reports how much it has put on the disk meanwhile.
func download(ctx context.Context, o Options, p platform, staging string) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(progressInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				o.Progress(Progress{Step: "download", Bytes: min(sizeOf(staging), p.tarballBytes), Total: p.tarballBytes})
			}
		}
	}()
	path, err := o.Download(ctx, staging, p.pkg+"@"+Version)
	cancel()
	<-done // progress comes from one goroutine at a time
	if err == nil {
		o.Progress(Progress{Step: "download", Bytes: p.tarballBytes, Total: p.tarballBytes})
	}
	return path, err
}

// sizeOf is an estimate: files come and go while it looks.
func sizeOf(dir string) (total int64) {
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				total += info.Size()
			}
		}
		return nil
	})
	return total
}

// npmPack downloads a package with npm, with its cache in dir: 180 MB that are needed once need not stay in the user's own.
func npmPack(ctx context.Context, dir, spec string) (string, error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", ErrNoClient
	}
	cmd := exec.CommandContext(ctx, npm, "pack", spec, "--ignore-scripts", "--pack-destination", dir, "--cache", filepath.Join(dir, "npm"),
		"--loglevel", "error", "--no-update-notifier", "--no-fund", "--no-audit")
	cmd.Dir = dir
	cmd.WaitDelay = 5 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &limitedBuffer{buf: &stderr, left: maxClientOutput}
	cmd.Stdout = io.Discard
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return "", fmt.Errorf("running npm pack %s: %w: %s", spec, err, strings.Join(strings.Fields(stderr.String()), " "))
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("running npm pack %s: it left %d tarballs", spec, len(found))
	}
	return found[0], nil
}

// limitedBuffer keeps the beginning of what is written to it.
type limitedBuffer struct {
	buf  *bytes.Buffer
	left int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.buf.Write(p[:n])
	b.left -= n
	return len(p), nil
}
