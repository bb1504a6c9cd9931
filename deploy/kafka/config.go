package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Config says how to reach a cluster. Only Seeds is required; without TLS and SASL the connection is plain text.
type Config struct {
	Seeds []string // host:port of some brokers
	TLS   TLS
	SASL  SASL
}

// TLS are the settings of an encrypted connection. Files are PEM.
type TLS struct {
	Enabled    bool
	CAFile     string // certificates that sign the brokers'; empty: those of the system
	CertFile   string // with KeyFile, the client's own; empty: none
	KeyFile    string
	ServerName string // name in the brokers' certificates; empty: the host that was dialed
}

// Mechanisms of SASL.
const (
	SASLPlain    = "PLAIN"
	SASLSCRAM256 = "SCRAM-SHA-256"
	SASLSCRAM512 = "SCRAM-SHA-512"
)

// SASL are the settings of a login. An empty Mechanism means none.
type SASL struct {
	Mechanism string
	User      string
	Password  Secret
}

// Secret is a text that must not be printed.
type Secret string

// String hides the secret.
func (Secret) String() string { return "***" }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return "***" }

// LogValue hides the secret from logs.
func (Secret) LogValue() slog.Value { return slog.StringValue("***") }

// Validate reports everything that is wrong, without touching a file.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Seeds) == 0 {
		bad("no seed brokers")
	}
	if !c.TLS.Enabled && (c.TLS.CAFile != "" || c.TLS.CertFile != "" || c.TLS.KeyFile != "" || c.TLS.ServerName != "") {
		bad("TLS files or a server name are given, but TLS is not switched on")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		bad("a client certificate needs both its file and its key's file")
	}
	switch c.SASL.Mechanism {
	case "":
		if c.SASL.User != "" || c.SASL.Password != "" {
			bad("a user or a password is given, but no SASL mechanism")
		}
	case SASLPlain, SASLSCRAM256, SASLSCRAM512:
		if c.SASL.User == "" || c.SASL.Password == "" {
			bad("SASL %s needs a user and a password", c.SASL.Mechanism)
		}
	default:
		bad("SASL mechanism %q: want %s, %s or %s", c.SASL.Mechanism, SASLPlain, SASLSCRAM256, SASLSCRAM512)
	}
	return errors.Join(errs...)
}

// Connection returns the options that any client of the cluster needs beside its seeds. It reads the TLS files.
func (c Config) Connection() ([]kgo.Opt, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("checking the kafka settings: %w", err)
	}
	var opts []kgo.Opt
	if c.TLS.Enabled {
		t, err := c.TLS.config()
		if err != nil {
			return nil, fmt.Errorf("setting up TLS: %w", err)
		}
		opts = append(opts, kgo.DialTLSConfig(t))
	}
	user, password := c.SASL.User, string(c.SASL.Password)
	switch c.SASL.Mechanism {
	case SASLPlain:
		opts = append(opts, kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism()))
	case SASLSCRAM256:
		opts = append(opts, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha256Mechanism()))
	case SASLSCRAM512:
		opts = append(opts, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha512Mechanism()))
	}
	return opts, nil
}

func (t TLS) config() (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading the CA file: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading the CA file: %s holds no PEM certificate", t.CAFile)
		}
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("reading the client certificate: %w", err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}
