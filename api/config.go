package api

import (
	"errors"
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/schemas/stream"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

// Bounds of what one request may ask for. They are part of the contract with clients, and so not settings.
const (
	LimitDefault = 100
	LimitMax     = 10_000
	IDsMax       = 100
)

// Config are the settings of the API. Start from DefaultConfig.
type Config struct {
	Environment  string `yaml:"environment" help:"environment that the root routes read"`
	Lineage      string `yaml:"lineage" help:"name of this installation's log; cursors of another lineage are refused"`
	ChangesTopic string `yaml:"changes_topic" help:"topic that cursors point into"`

	PageBytesMax int `yaml:"page_bytes_max" help:"bytes of a page before compression; a page holds at least one record whatever its size"`
	ScanExtraMax int `yaml:"scan_extra_max" help:"rows that a page may examine beyond its limit, for filters"`
	ReadersMax   int `yaml:"readers_max" help:"pages in memory at once; further reads wait. Times page_bytes_max it bounds the memory of reads, twice that with compression"`

	RequestTimeout    time.Duration `yaml:"request_timeout" help:"longest time to make an answer"`
	ReadHeaderTimeout time.Duration `yaml:"read_header_timeout" help:"longest time to receive the head of a request"`
	ReadTimeout       time.Duration `yaml:"read_timeout" help:"longest time to receive a request"`
	WriteTimeout      time.Duration `yaml:"write_timeout" help:"longest time from the head of a request to the end of its answer; above request_timeout"`
	IdleTimeout       time.Duration `yaml:"idle_timeout" help:"longest time that a connection stays open without a request"`
	ShutdownTimeout   time.Duration `yaml:"shutdown_timeout" help:"time for answers under way when the server stops"`

	HeaderBytesMax int   `yaml:"header_bytes_max" help:"bytes of request line and headers; 100 ids of 512 bytes, percent-encoded, need 160 KiB"`
	BodyBytesMax   int64 `yaml:"body_bytes_max" help:"bytes of a request body"`

	CompressBytesMin int  `yaml:"compress_bytes_min" help:"smallest answer that is compressed, when the client accepts zstd or gzip"`
	CompressLoopback bool `yaml:"compress_loopback" help:"compress for clients on this machine too; it costs more than it saves there"`
}

// DefaultConfig returns the settings of a single process. Lineage is left to the caller.
func DefaultConfig() Config {
	names, err := topic.NamesFor(topic.PrefixDefault, 1)
	if err != nil {
		panic("api: default topic prefix: " + err.Error())
	}
	return Config{
		Environment:       "dev",
		ChangesTopic:      names.Changes,
		PageBytesMax:      8 << 20,
		ScanExtraMax:      10_000,
		ReadersMax:        16,
		RequestTimeout:    30 * time.Second,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ShutdownTimeout:   10 * time.Second,
		HeaderBytesMax:    256 << 10,
		BodyBytesMax:      1 << 20,
		CompressBytesMin:  1 << 10,
	}
}

// Validate reports every problem at once, each with the name of its setting.
func (c Config) Validate() error {
	var errs []error
	bad := func(name, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: "+format, append([]any{name}, args...)...))
	}
	probe := stream.ID{Environment: c.Environment, Integration: "i", Connection: "c", Model: "M"}
	if err := probe.Validate(); err != nil {
		bad("environment", "%w", err)
	}
	if c.Lineage == "" {
		bad("lineage", "is empty")
	}
	if c.ChangesTopic == "" {
		bad("changes_topic", "is empty")
	}
	atLeast := func(name string, v, least int64) {
		if v < least {
			bad(name, "is %d, want at least %d", v, least)
		}
	}
	atLeast("page_bytes_max", int64(c.PageBytesMax), 1<<10)
	atLeast("scan_extra_max", int64(c.ScanExtraMax), 0)
	atLeast("readers_max", int64(c.ReadersMax), 1)
	atLeast("header_bytes_max", int64(c.HeaderBytesMax), 4<<10)
	atLeast("body_bytes_max", c.BodyBytesMax, 0)
	atLeast("compress_bytes_min", int64(c.CompressBytesMin), 0)
	positive := func(name string, d time.Duration) {
		if d <= 0 {
			bad(name, "is %s, want a positive duration", d)
		}
	}
	positive("request_timeout", c.RequestTimeout)
	positive("read_header_timeout", c.ReadHeaderTimeout)
	positive("read_timeout", c.ReadTimeout)
	positive("write_timeout", c.WriteTimeout)
	positive("idle_timeout", c.IdleTimeout)
	positive("shutdown_timeout", c.ShutdownTimeout)
	if c.WriteTimeout <= c.RequestTimeout {
		bad("write_timeout", "is %s, want more than request_timeout (%s): an answer that took long must still get out", c.WriteTimeout, c.RequestTimeout)
	}
	return errors.Join(errs...)
}
