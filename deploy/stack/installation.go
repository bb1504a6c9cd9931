package stack

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tidemark-dev/tidemark/deploy/kafka"
)

const (
	installationFile   = "tidemark.json"
	installationFormat = 1
)

// installation is what a data directory belongs to. It is made at the first start and never changes.
type installation struct {
	Format  int    `json:"format"`
	Cluster string `json:"cluster"` // id of the Kafka cluster
	Prefix  string `json:"prefix"`  // of topic names
	// Lineage binds cursors to the log. Every node of a cluster derives the same, and a data directory that is lost costs no cursor.
	Lineage string `json:"lineage"`
}

// loadInstallation returns nil if the directory is new.
func loadInstallation(dir string) (*installation, error) {
	path := filepath.Join(dir, installationFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading what the data directory belongs to: %w", err)
	}
	in := new(installation)
	if err := json.Unmarshal(text, in); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if in.Format != installationFormat {
		return nil, fmt.Errorf("reading %s: it has format %d, this version knows %d", path, in.Format, installationFormat)
	}
	return in, nil
}

// save writes the file so that a crash leaves either none or all of it.
func (in *installation) save(dir string) error {
	text, err := json.MarshalIndent(in, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding what the data directory belongs to: %w", err)
	}
	path := filepath.Join(dir, installationFile)
	if err := writeSynced(path+".tmp", append(text, '\n')); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func writeSynced(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func newInstallation(cluster, prefix string) *installation {
	return &installation{Format: installationFormat, Cluster: cluster, Prefix: prefix, Lineage: kafka.Lineage(cluster, prefix)}
}

// newEmbedded names an embedded broker that does not exist yet.
func newEmbedded(prefix string) *installation {
	return newInstallation(kafka.EmbeddedClusterID(rand.Text()), prefix)
}

// ErrForeignData says that a data directory belongs to another cluster or prefix.
var ErrForeignData = errors.New("the data directory belongs to another log")

func (in *installation) check(dir, cluster, prefix string) error {
	switch {
	case in.Prefix != prefix:
		return fmt.Errorf("%w: %s has the topics with prefix %q, not %q", ErrForeignData, dir, in.Prefix, prefix)
	case cluster != "" && in.Cluster != cluster:
		return fmt.Errorf("%w: %s was started with Kafka cluster %q, this one is %q", ErrForeignData, dir, in.Cluster, cluster)
	}
	return nil
}
