package devclickhouse

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

const (
	stateVersion = 1

	lockFile   = "lock"
	stateFile  = "state.json"
	configFile = "config.xml"
	usersFile  = "users.xml"
	dataDir    = "data"
	backupDir  = "backups"
	tmpDir     = "tmp"
)

var ours = []string{lockFile, stateFile, configFile, usersFile, serverFile, dataDir, backupDir, tmpDir}

// state is what outlives the processes, beside the data.
type state struct {
	Version      int    `json:"version"`
	Port         int    `json:"port"`
	Password     string `json:"password"`
	ReadPassword string `json:"read_password"`
}

// prepareDir creates the directory and checks that what is in it is ours.
func prepareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("creating the data directory: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("reading the data directory: %w", err)
	}
	for _, e := range entries {
		if !slices.Contains(ours, e.Name()) {
			return fmt.Errorf("%s holds %s, which is not an embedded ClickHouse's: %w", dir, e.Name(), ErrFormat)
		}
	}
	for _, sub := range []string{dataDir, backupDir, tmpDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return fmt.Errorf("creating the data directory: %w", err)
		}
	}
	return nil
}

// loadState returns the state of the last start, or that of a first one.
func loadState(dir string) (state, error) {
	text, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return state{Version: stateVersion, Password: rand.Text(), ReadPassword: rand.Text()}, nil
	}
	if err != nil {
		return state{}, fmt.Errorf("reading the state: %w", err)
	}
	var st state
	if err := json.Unmarshal(text, &st); err != nil {
		return state{}, fmt.Errorf("reading %s: %w: %w", filepath.Join(dir, stateFile), ErrFormat, err)
	}
	if st.Version != stateVersion || st.Password == "" || st.ReadPassword == "" {
		return state{}, fmt.Errorf("%s has version %d: %w", filepath.Join(dir, stateFile), st.Version, ErrFormat)
	}
	return st, nil
}

func (st state) save(dir string) error {
	text, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("encoding the state: %w", err)
	}
	return writeFile(filepath.Join(dir, stateFile), text)
}

// writeFile replaces a file in one step, readable by its owner alone.
func writeFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Join(filepath.Dir(path), tmpDir), "write-") // of mode 0600
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
