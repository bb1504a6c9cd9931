package stack

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse"
	"github.com/tidemark-dev/tidemark/deploy/kafka"
	"github.com/tidemark-dev/tidemark/projections/fold"
	"github.com/tidemark-dev/tidemark/projections/follow"
	"github.com/tidemark-dev/tidemark/projections/project"
	"github.com/tidemark-dev/tidemark/projections/warehouse"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

// OpenWarehouse reaches the projections of a stack that is up, from another process: those of the embedded engine of a data directory, or
// of the server that cfg.DSN names.
func OpenWarehouse(dataDir string, cfg ProjectionsConfig) (*warehouse.Warehouse, error) {
	dsn, topology := cfg.DSN, cfg.Topology
	if dsn == "" {
		login, err := devclickhouse.Lookup(filepath.Join(dataDir, "clickhouse"), true)
		if err != nil {
			return nil, err
		}
		u := url.URL{Scheme: "http", User: url.UserPassword(login.User, login.Password), Host: login.Addr, Path: "/" + cfg.Database}
		dsn, topology = u.String(), warehouse.Embedded
	}
	return warehouse.Open(warehouse.Config{DSN: dsn, Database: cfg.Database, Topology: topology, Cluster: cfg.Cluster})
}

// RebuildProjections fills a new generation of tables out of the log and lets the views read it; see project.Rebuild. The stack that writes
// the projections goes on, and follows.
func RebuildProjections(ctx context.Context, w *warehouse.Warehouse, dataDir string, cfg ProjectionsConfig, at kafka.Config, names topic.Names, force bool,
	progress func(project.RebuildStep)) (report project.RebuildReport, err error) {
	secret := cfg.Secret
	if len(secret) == 0 {
		if secret, err = loadSecret(filepath.Join(dataDir, secretFile)); err != nil {
			return report, err
		}
	}
	keys, err := fold.NewKeys(secret)
	if err != nil {
		return report, err
	}
	opts, err := at.Connection()
	if err != nil {
		return report, err
	}
	source, err := project.NewKafkaSource(follow.Config{Seeds: at.Seeds, Client: opts, Names: names})
	if err != nil {
		return report, err
	}
	defer source.Close()
	report, err = project.Rebuild(ctx, project.RebuildConfig{
		Warehouse: w, Source: source, Keys: keys, RawTopic: names.Raw, ChangesTopic: names.Changes, Force: force, Progress: progress,
	})
	if err != nil {
		return report, fmt.Errorf("rebuilding the projections: %w", err)
	}
	return report, nil
}
