package library

import (
	"errors"
	"fmt"
	"runtime"
)

// Version is the version of the npm packages that hold the library.
const Version = "26.7.3-stable.1"

// EnvPath names the environment variable that holds the path of a library to use.
const EnvPath = "TIDEMARK_CHDB_LIBRARY"

var (
	// ErrPlatform says that there is no library for this system, or none whose checksum is known.
	ErrPlatform = errors.New("no ClickHouse library for this platform")
	// ErrMissing says that the library is in none of the places.
	ErrMissing = errors.New("the ClickHouse library is not on this machine")
	// ErrChecksum says that what was fetched is not the pinned package: damaged on the way, or another one.
	ErrChecksum = errors.New("wrong checksum")
	// ErrNoSpace says that the cache's file system is too full for the library.
	ErrNoSpace = errors.New("not enough free space")
	// ErrNoClient says that npm is not on the PATH.
	ErrNoClient = errors.New("npm is not on the PATH")
)

// Error is any reason for which there is no library to load, together with what can be done about it.
type Error struct{ Cause error }

func (e *Error) Error() string {
	return fmt.Sprintf("%v. Ways out: fetch it where npm and a network are (tidemark clickhouse fetch); "+
		"or name a libchdb.so of version %s in %s; or give the address of a ClickHouse server", e.Cause, Version, EnvPath)
}

func (e *Error) Unwrap() error { return e.Cause }

// platform is a package of the library and what it must be.
type platform struct {
	pkg string
	// sha512 of the package's tarball in base64, as package registries print it; empty if no such tarball was ever checked.
	sha512 string
	// sha256 of the library, in hex.
	sha256       string
	tarballBytes int64
	libraryBytes int64
}

var platforms = map[string]platform{
	"linux/amd64": {
		pkg:          "@chdb/lib-linux-x64-gnu",
		sha512:       "XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw==",
		sha256:       "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5",
		tarballBytes: 177817999,
		libraryBytes: 566330096,
	},
	// Announced under these names at the same version; until one has been seen and its checksum pinned, none is unpacked.
	"linux/arm64":  {pkg: "@chdb/lib-linux-arm64-gnu"},
	"darwin/arm64": {pkg: "@chdb/lib-darwin-arm64"},
	"darwin/amd64": {pkg: "@chdb/lib-darwin-x64"},
}

// current returns the platform of this process.
func current() (platform, error) { return platformOf(runtime.GOOS + "/" + runtime.GOARCH) }

func platformOf(name string) (platform, error) {
	p, ok := platforms[name]
	switch {
	case !ok:
		return platform{}, &Error{fmt.Errorf("%w: %s", ErrPlatform, name)}
	case p.sha512 == "":
		return platform{}, &Error{fmt.Errorf("%w: no checksum is known for %s (%s)", ErrPlatform, p.pkg, name)}
	}
	return p, nil
}

// Size returns what a fetch moves over the network and what it leaves on the disk, in bytes; zeros where there is nothing to
// fetch.
func Size() (download, disk int64) {
	p, err := current()
	if err != nil {
		return 0, 0
	}
	return p.tarballBytes, p.libraryBytes
}
