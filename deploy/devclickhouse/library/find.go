package library

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	fileName   = "libchdb.so"
	markerName = "libchdb.so.verified"
	lockName   = "lock"
)

// CacheDir is the folder that [Fetch] fills: that of this version below the user's cache folder.
func CacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("looking for the user's cache folder: %w", err)
	}
	return filepath.Join(base, "tidemark", "chdb", Version), nil
}

// Find returns the path of the library: explicit if that is not empty, else the one in the environment, else the one in the
// cache. Every error is an [*Error]; ErrMissing is in it when a fetch would help.
func Find(explicit string) (string, error) {
	for _, given := range []struct{ path, by string }{{explicit, "the configuration"}, {os.Getenv(EnvPath), EnvPath}} {
		if given.path == "" {
			continue
		}
		info, err := os.Stat(given.path)
		if err != nil {
			return "", &Error{fmt.Errorf("opening the ClickHouse library that %s names: %w", given.by, err)}
		}
		if !info.Mode().IsRegular() {
			return "", &Error{fmt.Errorf("%s names %s as the ClickHouse library, which is not a file", given.by, given.path)}
		}
		path, err := filepath.Abs(given.path)
		if err != nil {
			return "", &Error{fmt.Errorf("resolving %s: %w", given.path, err)}
		}
		return path, nil
	}
	p, err := current()
	if err != nil {
		return "", err
	}
	dir, err := CacheDir()
	if err != nil {
		return "", &Error{err}
	}
	return findIn(dir, p)
}

// marker is what stands beside a library that was checked.
type marker struct {
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// findIn returns the library of dir. Its checksum was right when the marker was written; its length is compared again, as that
// costs nothing and tells a file that a full disk or a careless copy has cut.
func findIn(dir string, p platform) (string, error) {
	path := filepath.Join(dir, fileName)
	text, err := os.ReadFile(filepath.Join(dir, markerName))
	if errors.Is(err, fs.ErrNotExist) {
		return "", &Error{fmt.Errorf("%w: looked in %s", ErrMissing, dir)}
	}
	if err != nil {
		return "", &Error{fmt.Errorf("reading the marker of the ClickHouse library: %w", err)}
	}
	var m marker
	info, statErr := os.Stat(path)
	if json.Unmarshal(text, &m) != nil || m.SHA256 != p.sha256 || m.Bytes != p.libraryBytes || statErr != nil || info.Size() != m.Bytes {
		return "", &Error{fmt.Errorf("%w: what is in %s is not the library that was checked", ErrMissing, dir)}
	}
	return path, nil
}
