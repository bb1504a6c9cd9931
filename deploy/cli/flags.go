package cli

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tidemark-dev/tidemark/deploy/kafka"
	"github.com/tidemark-dev/tidemark/deploy/stack"
	"github.com/tidemark-dev/tidemark/schemas/stream"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

// kafkaFlags say how to reach the broker.
type kafkaFlags struct {
	seeds        []string
	prefix       string
	tls          kafka.TLS
	mechanism    string
	user         string
	passwordFile string
}

func (k *kafkaFlags) register(cmd *cobra.Command, seeds []string, usage string) {
	f := cmd.Flags()
	f.StringSliceVar(&k.seeds, "kafka", seeds, usage)
	f.StringVar(&k.prefix, "prefix", topic.PrefixDefault, "prefix of the topic names")
	f.BoolVar(&k.tls.Enabled, "kafka-tls", false, "connect to Kafka with TLS")
	f.StringVar(&k.tls.CAFile, "kafka-ca-file", "", "PEM `file` of the certificates that sign the brokers' (default: the system's)")
	f.StringVar(&k.tls.CertFile, "kafka-cert-file", "", "PEM `file` of the client's own certificate")
	f.StringVar(&k.tls.KeyFile, "kafka-key-file", "", "PEM `file` of its key")
	f.StringVar(&k.tls.ServerName, "kafka-server-name", "", "name in the brokers' certificates (default: the host in --kafka)")
	f.StringVar(&k.mechanism, "kafka-sasl", "", "log in to Kafka: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
	f.StringVar(&k.user, "kafka-user", "", "user to log in with")
	f.StringVar(&k.passwordFile, "kafka-password-file", "", "`file` that holds the password; else it is taken from "+passwordEnv)
}

// registerClient is register for commands that talk to a stack that is up.
func (k *kafkaFlags) registerClient(cmd *cobra.Command) {
	k.register(cmd, []string{stack.KafkaListenDefault}, "`host:port` of brokers, separated by commas")
}

// passwordEnv is the one setting that has no flag: arguments can be read by everybody on the machine.
const passwordEnv = "TIDEMARK_KAFKA_PASSWORD"

func (a *app) kafkaConfig(k *kafkaFlags) (kafka.Config, error) {
	c := kafka.Config{Seeds: k.seeds, TLS: k.tls, SASL: kafka.SASL{Mechanism: strings.ToUpper(k.mechanism), User: k.user}}
	if k.mechanism != "" {
		c.SASL.Password = kafka.Secret(a.env[passwordEnv])
		if k.passwordFile != "" {
			text, err := os.ReadFile(k.passwordFile)
			if err != nil {
				return c, fmt.Errorf("reading the password file: %w", err)
			}
			c.SASL.Password = kafka.Secret(strings.TrimRight(string(text), "\r\n"))
		}
	}
	if err := c.Validate(); err != nil {
		return c, usagef("See the --kafka flags in --help.", "%v", err)
	}
	return c, nil
}

func (k *kafkaFlags) names() (topic.Names, error) {
	n, err := topic.NamesFor(k.prefix, 1)
	if err != nil {
		return n, usagef("", "--prefix: %v", err)
	}
	return n, nil
}

// streamFlags name a stream, or a set of streams when parts are left out.
type streamFlags struct {
	environment, integration, connection, model, variant string
}

func (s *streamFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.environment, "environment", "dev", "environment of the stream")
	s.registerConnection(cmd)
}

// registerConnection is register without the environment, which the server fixes for HTTP.
func (s *streamFlags) registerConnection(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.integration, "integration", "demo", "integration of the stream")
	f.StringVar(&s.connection, "connection", "", "connection of the stream")
	f.StringVar(&s.model, "model", "", "model of the stream")
	f.StringVar(&s.variant, "variant", stream.VariantBase, "variant of the stream")
}

// id returns the stream that the flags name; connection and model must be there.
func (s *streamFlags) id() (stream.ID, error) {
	id := s.filter()
	var missing []string
	for _, p := range []struct{ flag, value string }{{"--connection", s.connection}, {"--model", s.model}} {
		if p.value == "" {
			missing = append(missing, p.flag)
		}
	}
	if len(missing) > 0 {
		return id, usagef("For example: --connection acme --model Brand", "%s missing", strings.Join(missing, " and "))
	}
	if err := id.Validate(); err != nil {
		return id, usagef("", "%v", err)
	}
	return id, nil
}

// filter returns the parts that are given.
func (s *streamFlags) filter() stream.ID {
	return stream.ID{Environment: s.environment, Integration: s.integration, Connection: s.connection, Model: s.model, Variant: s.variant}
}

// args are the flags that name the stream again, without those that are defaults.
func streamArgs(id stream.ID) string {
	var out []string
	add := func(flag, value, def string) {
		if value != def {
			out = append(out, "--"+flag, shellQuote(value))
		}
	}
	add("environment", id.Environment, "dev")
	add("integration", id.Integration, "demo")
	add("connection", id.Connection, "")
	add("model", id.Model, "")
	add("variant", id.Variant, stream.VariantBase)
	return strings.Join(out, " ")
}

// args are the flags that reach the broker again. Files and names only: there is no secret in them.
func (k *kafkaFlags) args() string {
	var out []string
	if !slices.Equal(k.seeds, []string{stack.KafkaListenDefault}) {
		out = append(out, "--kafka", strings.Join(k.seeds, ","))
	}
	if k.prefix != topic.PrefixDefault {
		out = append(out, "--prefix", k.prefix)
	}
	return strings.Join(out, " ")
}

// shellQuote makes one word of s for a POSIX shell.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_./:,@%+=", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// byteSize is a number of bytes as a flag: 1073741824, 512MiB, 2GiB.
type byteSize int64

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{{"GIB", 1 << 30}, {"MIB", 1 << 20}, {"KIB", 1 << 10}, {"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}, {"B", 1}, {"", 1}}

// Set implements pflag.Value.
func (b *byteSize) Set(s string) error {
	text := strings.ToUpper(strings.TrimSpace(s))
	for _, u := range sizeUnits {
		if digits, ok := strings.CutSuffix(text, u.suffix); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
			if err != nil || n < 0 || n > (1<<62)/u.bytes {
				break
			}
			*b = byteSize(n * u.bytes)
			return nil
		}
	}
	return fmt.Errorf("%q is not a size: write a number with KiB, MiB or GiB", s)
}

// String implements pflag.Value.
func (b *byteSize) String() string { return formatBytes(int64(*b)) }

// Type implements pflag.Value.
func (b *byteSize) Type() string { return "size" }

// formatBytes writes a size for people; sizes that are a whole number of a unit are exact.
func formatBytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if v == float64(int64(v)) {
		return fmt.Sprintf("%d%s", int64(v), units[i])
	}
	return fmt.Sprintf("%.1f%s", v, units[i])
}
