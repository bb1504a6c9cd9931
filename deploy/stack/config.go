package stack

import (
	"errors"
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/kafka"
	"github.com/tidemark-dev/tidemark/processor/decide"
	"github.com/tidemark-dev/tidemark/schemas/stream"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

// Config of a Stack. Start from DefaultConfig.
type Config struct {
	DataDir string

	HTTPAddr       string // host:port; port 0 takes a free one
	InsecureListen bool   // permits addresses beyond loopback: there are no API keys yet

	Kafka       kafka.Config // a cluster; without seeds the embedded broker is started
	KafkaListen string       // host:port of the embedded broker; port 0 takes the last one again, or a free one
	SyncWrites  bool         // the embedded broker has each batch on the disk before it acknowledges it
	Replication int16        // copies of topics that are created on a cluster; -1: the cluster's default

	Prefix     string // of topic names
	Partitions int32  // 0: those of existing topics, else topic.PartitionsDefault

	Environment string // that the root routes read
	Node        string // name of this process in the log

	Models func(stream.ID) decide.Model // how records are compared, see LoadModels; nil: the same way for all

	Projections ProjectionsConfig

	MemoryBytes     int64         // what the process may use, see Memory
	ShutdownTimeout time.Duration // for everything to stop
}

// Default addresses. Fixed, so that the commands find a running stack without being told.
const (
	HTTPAddrDefault    = "127.0.0.1:8321"
	KafkaListenDefault = "127.0.0.1:9321"
	DataDirDefault     = "./tidemark-data"
)

// DefaultConfig returns the settings of a single process with the embedded broker.
func DefaultConfig() Config {
	return Config{
		DataDir: DataDirDefault, HTTPAddr: HTTPAddrDefault, KafkaListen: KafkaListenDefault, Replication: -1,
		Prefix: topic.PrefixDefault, Environment: "dev", Node: "tidemark", MemoryBytes: 1 << 30, ShutdownTimeout: 25 * time.Second,
	}
}

// Embedded reports whether the stack brings its own broker.
func (c Config) Embedded() bool { return len(c.Kafka.Seeds) == 0 }

const memoryBytesMin = 256 << 20

// Validate reports every problem at once, each with the name of its flag.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.DataDir == "" {
		bad("--data: is empty")
	}
	if !c.Embedded() {
		if err := c.Kafka.Validate(); err != nil {
			bad("--kafka: %w", err)
		}
		if c.SyncWrites {
			bad("--sync: is for the embedded broker, not for --kafka")
		}
	}
	if _, err := topic.NamesFor(c.Prefix, 1); err != nil {
		bad("--prefix: %w", err)
	}
	if c.Partitions < 0 || c.Partitions > partitionsMax {
		bad("--partitions: %d, want 1 to %d", c.Partitions, partitionsMax)
	}
	probe := stream.ID{Environment: c.Environment, Integration: "i", Connection: "c", Model: "M"}
	if err := probe.Validate(); err != nil {
		bad("--environment: %w", err)
	}
	if c.MemoryBytes < memoryBytesMin {
		bad("--memory: %d bytes, want at least %d MiB", c.MemoryBytes, memoryBytesMin>>20)
	}
	if c.ShutdownTimeout <= 0 {
		bad("shutdown timeout: %s, want a positive duration", c.ShutdownTimeout)
	}
	return errors.Join(errs...)
}

// partitionsMax bounds the partitions that one process runs.
const partitionsMax = 1024
