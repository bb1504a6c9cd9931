package library

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/gzip"
)

// unpack writes the library of a package to path, and checks both on the way. What it leaves at path after an error is not to
// be used.
func unpack(ctx context.Context, tarball, path string, p platform, report func(Progress)) error {
	in, err := os.Open(tarball)
	if err != nil {
		return fmt.Errorf("opening the package: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return fmt.Errorf("creating the library's file: %w", err)
	}
	defer out.Close()

	outer, inner := sha512.New(), sha256.New()
	whole := io.TeeReader(&contextReader{ctx, in}, outer)
	watched := &progressWriter{report: report, total: p.libraryBytes}
	unpackErr := copyLibrary(whole, io.MultiWriter(out, inner, watched), p.libraryBytes)
	if ctx.Err() != nil {
		return fmt.Errorf("unpacking the library: %w", ctx.Err())
	}
	// The checksum of the package comes before any complaint of a decoder: a package that is cut or damaged is just that.
	if _, err := io.Copy(io.Discard, whole); err != nil {
		return fmt.Errorf("reading the package: %w", err)
	}
	if got := base64.StdEncoding.EncodeToString(outer.Sum(nil)); got != p.sha512 {
		return fmt.Errorf("%w: the package %s@%s has sha512 %s, not %s", ErrChecksum, p.pkg, Version, got, p.sha512)
	}
	if unpackErr != nil {
		return fmt.Errorf("unpacking the library: %w", unpackErr)
	}
	if got := hexSum(inner); got != p.sha256 {
		return fmt.Errorf("%w: the library in %s@%s has sha256 %s, not %s", ErrChecksum, p.pkg, Version, got, p.sha256)
	}
	if err := errors.Join(out.Sync(), out.Close()); err != nil {
		return fmt.Errorf("writing the library: %w", err)
	}
	return nil
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// copyLibrary copies the one file that is wanted out of a tarball, at most limit bytes of it.
func copyLibrary(in io.Reader, out io.Writer, limit int64) error {
	unzipped, err := gzip.NewReader(in)
	if err != nil {
		return err
	}
	defer unzipped.Close()
	for archive := tar.NewReader(unzipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("the package has no %s", fileName)
		}
		if err != nil {
			return err
		}
		if header.Name != "package/"+fileName || header.Typeflag != tar.TypeReg {
			continue
		}
		if header.Size > limit {
			return fmt.Errorf("%s has %d bytes, more than %d", fileName, header.Size, limit)
		}
		_, err = io.Copy(out, archive)
		return err
	}
}

// install makes the unpacked library that of dir.
func install(dir, unpacked string, p platform) (string, error) {
	path := filepath.Join(dir, fileName)
	if err := os.Rename(unpacked, path); err != nil {
		return "", fmt.Errorf("moving the library into place: %w", err)
	}
	text, err := json.Marshal(marker{SHA256: p.sha256, Bytes: p.libraryBytes})
	if err != nil {
		return "", fmt.Errorf("encoding the marker: %w", err)
	}
	// The rename must be on the disk before the marker vouches for it.
	if err := errors.Join(syncDir(dir), writeSynced(filepath.Join(dir, markerName), text), syncDir(dir)); err != nil {
		return "", fmt.Errorf("writing the marker: %w", err)
	}
	return path, nil
}

func writeSynced(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "marker-")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// progressWriter reports how much has passed, a few times a second and at the end.
type progressWriter struct {
	report func(Progress)
	total  int64
	done   int64
	last   time.Time
}

func (w *progressWriter) Write(p []byte) (int, error) {
	w.done += int64(len(p))
	if now := time.Now(); w.done == w.total || now.Sub(w.last) >= progressInterval {
		w.last = now
		w.report(Progress{Step: "unpack", Bytes: min(w.done, w.total), Total: w.total})
	}
	return len(p), nil
}
