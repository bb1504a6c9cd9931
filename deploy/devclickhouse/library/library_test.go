package library

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pack makes a package as npm does, and what it should be.
func pack(t testing.TB, files map[string][]byte) (tarball string, p platform) {
	t.Helper()
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	archive := tar.NewWriter(zipped)
	for _, name := range []string{"package/index.js", "package/addon.node", "package/libchdb.so", "package/package.json"} {
		if data, ok := files[name]; ok {
			must(t, archive.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(data))}))
			_, err := archive.Write(data)
			must(t, err)
		}
	}
	must(t, errors.Join(archive.Close(), zipped.Close()))
	tarball = filepath.Join(t.TempDir(), "package.tgz")
	must(t, os.WriteFile(tarball, b.Bytes(), 0o600))
	outer, inner := sha512.Sum512(b.Bytes()), sha256.Sum256(files["package/libchdb.so"])
	return tarball, platform{
		pkg: "@test/lib", sha512: base64.StdEncoding.EncodeToString(outer[:]), sha256: hex.EncodeToString(inner[:]),
		tarballBytes: int64(b.Len()), libraryBytes: int64(len(files["package/libchdb.so"])),
	}
}

func packed(t testing.TB) (tarball string, p platform, content []byte) {
	content = make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{1}).Read(content)
	tarball, p = pack(t, map[string][]byte{"package/index.js": []byte("x"), "package/addon.node": content[:100], "package/libchdb.so": content, "package/package.json": nil})
	return tarball, p, content
}

func entries(t testing.TB, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestFetch(t *testing.T) {
	tarball, p, content := packed(t)
	dir := filepath.Join(t.TempDir(), "deep", "cache")
	var steps []Progress
	path, err := Fetch(t.Context(), Options{Dir: dir, Tarball: tarball, platform: &p, Progress: func(p Progress) { steps = append(steps, p) }})
	must(t, err)
	got, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(got, content) {
		t.Error("the library is not what was packed")
	}
	if want := []string{"libchdb.so", "libchdb.so.verified", "lock"}; !slices.Equal(entries(t, dir), want) {
		t.Errorf("the cache holds %v, want %v", entries(t, dir), want)
	}
	if last := steps[len(steps)-1]; last != (Progress{"unpack", p.libraryBytes, p.libraryBytes}) {
		t.Errorf("the last progress is %+v", last)
	}
	// Again, with nothing to fetch from.
	again, err := Fetch(t.Context(), Options{Dir: dir, Tarball: "/nowhere", platform: &p})
	must(t, err)
	if again != path {
		t.Errorf("the second fetch returns %s", again)
	}
	// A file that was cut since is not taken, and replaced.
	must(t, os.Truncate(path, 100))
	if _, err := findIn(dir, p); !errors.Is(err, ErrMissing) {
		t.Errorf("a cut library: %v", err)
	}
	_, err = Fetch(t.Context(), Options{Dir: dir, Tarball: tarball, platform: &p})
	must(t, err)
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the cut library was not replaced: %v", err)
	}
}

// TestFetch_Refuses has something wrong with what is fetched, or the machine: nothing is installed, nothing is left.
func TestFetch_Refuses(t *testing.T) {
	tarball, p, content := packed(t)
	whole, err := os.ReadFile(tarball)
	must(t, err)
	write := func(t *testing.T, data []byte) string {
		path := filepath.Join(t.TempDir(), "p.tgz")
		must(t, os.WriteFile(path, data, 0o600))
		return path
	}
	flipped := slices.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	other := p
	other.sha256 = strings.Repeat("0", 64)
	small := p
	small.libraryBytes = 1000
	noLibrary, noLibraryPlatform := pack(t, map[string][]byte{"package/index.js": content})
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx  context.Context
		o    Options
		is   error
		text string
	}{
		"flipped bit":       {o: Options{Tarball: write(t, flipped), platform: &p}, is: ErrChecksum},
		"cut":               {o: Options{Tarball: write(t, whole[:len(whole)/2]), platform: &p}, is: ErrChecksum},
		"empty":             {o: Options{Tarball: write(t, nil), platform: &p}, is: ErrChecksum},
		"another library":   {o: Options{Tarball: tarball, platform: &other}, is: ErrChecksum},
		"something after":   {o: Options{Tarball: write(t, append(slices.Clone(whole), 0)), platform: &p}, is: ErrChecksum},
		"a bigger library":  {o: Options{Tarball: tarball, platform: &small}, text: "more than 1000"},
		"no library in it":  {o: Options{Tarball: noLibrary, platform: &noLibraryPlatform}, text: "has no libchdb.so"},
		"no tarball":        {o: Options{Tarball: "/nowhere/p.tgz", platform: &p}, is: os.ErrNotExist},
		"full disk":         {o: Options{Tarball: tarball, platform: &p, FreeBytes: func(string) (int64, error) { return p.libraryBytes - 1, nil }}, is: ErrNoSpace},
		"full for download": {o: Options{platform: &p, FreeBytes: func(string) (int64, error) { return p.libraryBytes, nil }}, is: ErrNoSpace},
		"download fails": {o: Options{platform: &p, Download: func(_ context.Context, dir, spec string) (string, error) {
			must(t, os.WriteFile(filepath.Join(dir, "half"), content, 0o600))
			return "", errors.New("no network for " + spec)
		}}, text: "no network for @test/lib@" + Version},
		"cancelled": {ctx: cancelled, o: Options{Tarball: tarball, platform: &p}, is: context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			if test.ctx == nil {
				test.ctx = t.Context()
			}
			test.o.Dir = t.TempDir()
			_, err := Fetch(test.ctx, test.o)
			var typed *Error
			if !errors.As(err, &typed) || test.is != nil && !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("the error is %v, want one that is %v and says %q", err, test.is, test.text)
			}
			for _, way := range []string{"tidemark clickhouse fetch", EnvPath, "address of a ClickHouse server"} {
				if !strings.Contains(err.Error(), way) {
					t.Errorf("the error does not name %q: %v", way, err)
				}
			}
			if left := entries(t, test.o.Dir); !slices.Equal(left, []string{"lock"}) {
				t.Errorf("the cache holds %v", left)
			}
		})
	}
}

// TestFetch_AtOnce has several want the library: one downloads it, all get it.
func TestFetch_AtOnce(t *testing.T) {
	tarball, p, _ := packed(t)
	dir := t.TempDir()
	var downloads atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			path, err := Fetch(t.Context(), Options{Dir: dir, platform: &p, Download: func(_ context.Context, to, _ string) (string, error) {
				downloads.Add(1)
				path := filepath.Join(to, "p.tgz")
				return path, os.Link(tarball, path)
			}})
			if err != nil || path != filepath.Join(dir, fileName) {
				t.Errorf("Fetch returned %s, %v", path, err)
			}
		})
	}
	wg.Wait()
	if n := downloads.Load(); n != 1 {
		t.Errorf("%d downloads, want 1", n)
	}
	if want := []string{"libchdb.so", "libchdb.so.verified", "lock"}; !slices.Equal(entries(t, dir), want) {
		t.Errorf("the cache holds %v, want %v", entries(t, dir), want)
	}
}

// TestFetch_WaitEnds gives up waiting for another fetch with the context.
func TestFetch_WaitEnds(t *testing.T) {
	tarball, p, _ := packed(t)
	dir := t.TempDir()
	release, err := lockFile(t.Context(), filepath.Join(dir, lockName))
	must(t, err)
	defer release()
	ctx, cancel := context.WithTimeout(t.Context(), 100*lockPoll/100)
	defer cancel()
	if _, err := Fetch(ctx, Options{Dir: dir, Tarball: tarball, platform: &p}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v", err)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	given, named := filepath.Join(dir, "given.so"), filepath.Join(dir, "named.so")
	must(t, errors.Join(os.WriteFile(given, nil, 0o600), os.WriteFile(named, nil, 0o600)))
	t.Setenv(EnvPath, named)
	if path, err := Find(given); err != nil || path != given {
		t.Errorf("a path that is given: %s, %v", path, err)
	}
	if path, err := Find(""); err != nil || path != named {
		t.Errorf("a path in the environment: %s, %v", path, err)
	}
	for _, bad := range []string{filepath.Join(dir, "nothing.so"), dir} {
		if _, err := Find(bad); err == nil || errors.Is(err, ErrMissing) {
			t.Errorf("%s: %v; a wrong path is not mended by a fetch", bad, err)
		}
	}
	t.Setenv(EnvPath, "")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	if _, err := Find(""); !errors.Is(err, ErrMissing) && !errors.Is(err, ErrPlatform) {
		t.Errorf("an empty cache: %v", err)
	}
}

func TestPlatforms(t *testing.T) {
	for name, known := range map[string]bool{"linux/amd64": true, "linux/arm64": false, "darwin/arm64": false, "windows/amd64": false} {
		_, err := platformOf(name)
		var typed *Error
		if known && err != nil || !known && (!errors.Is(err, ErrPlatform) || !errors.As(err, &typed)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNpmPack runs the client against a stub that behaves as npm does, so that the arguments stay what they are.
func TestNpmPack(t *testing.T) {
	bin, dir := t.TempDir(), t.TempDir()
	stub := `#!/bin/sh
echo "$@" > "$NPM_STUB_ARGS"
while [ $# -gt 0 ]; do [ "$1" = --pack-destination ] && to=$2; shift; done
[ -n "$NPM_STUB_FAIL" ] && { echo "npm error code E404" >&2; exit 1; }
echo tarball > "$to/test-lib-1.tgz"; echo test-lib-1.tgz
`
	must(t, os.WriteFile(filepath.Join(bin, "npm"), []byte(stub), 0o755))
	t.Setenv("PATH", bin+":/bin:/usr/bin")
	args := filepath.Join(bin, "args")
	t.Setenv("NPM_STUB_ARGS", args)
	path, err := npmPack(t.Context(), dir, "@test/lib@1")
	must(t, err)
	if path != filepath.Join(dir, "test-lib-1.tgz") {
		t.Errorf("the tarball is %s", path)
	}
	text, err := os.ReadFile(args)
	must(t, err)
	if !strings.HasPrefix(string(text), "pack @test/lib@1 --ignore-scripts --pack-destination "+dir+" ") {
		t.Errorf("npm was run with %s", text)
	}
	t.Setenv("NPM_STUB_FAIL", "1")
	if _, err := npmPack(t.Context(), t.TempDir(), "@test/lib@1"); err == nil || !strings.Contains(err.Error(), "E404") {
		t.Errorf("when npm fails: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := npmPack(t.Context(), dir, "@test/lib@1"); !errors.Is(err, ErrNoClient) {
		t.Errorf("without npm: %v", err)
	}
}
