package kafka

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
)

func TestConfig_Validate(t *testing.T) {
	seeds := []string{"127.0.0.1:9092"}
	for _, c := range []struct {
		name string
		cfg  Config
		want string // part of the error; "" for none
	}{
		{"plain text", Config{Seeds: seeds}, ""},
		{"no seeds", Config{}, "no seed brokers"},
		{"TLS with the system's certificates", Config{Seeds: seeds, TLS: TLS{Enabled: true}}, ""},
		{"files without TLS", Config{Seeds: seeds, TLS: TLS{CAFile: "ca.pem"}}, "not switched on"},
		{"certificate without key", Config{Seeds: seeds, TLS: TLS{Enabled: true, CertFile: "c.pem"}}, "key's file"},
		{"login", Config{Seeds: seeds, SASL: SASL{SASLSCRAM512, "u", "p"}}, ""},
		{"login without password", Config{Seeds: seeds, SASL: SASL{SASLPlain, "u", ""}}, "needs a user and a password"},
		{"password without mechanism", Config{Seeds: seeds, SASL: SASL{"", "", "p"}}, "no SASL mechanism"},
		{"unknown mechanism", Config{Seeds: seeds, SASL: SASL{"GSSAPI", "u", "p"}}, "GSSAPI"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.cfg.Validate()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "\"p\"") {
				t.Errorf("the password is in %v", err)
			}
		})
	}
}

func TestSecret_IsNeverPrinted(t *testing.T) {
	c := Config{Seeds: []string{"x"}, SASL: SASL{SASLPlain, "user", "hunter2"}}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("config", "password", c.SASL.Password, "sasl", fmt.Sprint(c.SASL))
	all := fmt.Sprintf("%v %+v %#v %s %s", c, c, c, c.SASL.Password, log.String())
	if strings.Contains(all, "hunter2") {
		t.Error(all)
	}
}

// writeCertificate makes a certificate for 127.0.0.1 that signs itself.
func writeCertificate(t *testing.T) (certFile string, pair tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broker"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return certFile, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestDial_WithTLSAndALogin(t *testing.T) {
	caFile, pair := writeCertificate(t)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser(SASLSCRAM256, "tide", "hunter2"),
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}}))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	good := Config{
		Seeds: cluster.ListenAddrs(), TLS: TLS{Enabled: true, CAFile: caFile}, SASL: SASL{SASLSCRAM256, "tide", "hunter2"},
	}
	a, err := Dial(t.Context(), good, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	a.Close()

	for name, breakIt := range map[string]func(*Config){
		"a wrong password":        func(c *Config) { c.SASL.Password = "hunter3" },
		"certificates of another": func(c *Config) { c.TLS.CAFile, _ = writeCertificate(t) },
		"no certificates":         func(c *Config) { c.TLS.CAFile = "" },
		"a missing file":          func(c *Config) { c.TLS.CAFile = filepath.Join(t.TempDir(), "none.pem") },
		"a file without PEM":      func(c *Config) { c.TLS.CAFile = os.Args[0] },
	} {
		bad := good
		breakIt(&bad)
		if a, err := Dial(t.Context(), bad, slog.New(slog.DiscardHandler)); err == nil {
			a.Close()
			t.Errorf("connected with %s", name)
		} else if strings.Contains(err.Error(), "hunter") {
			t.Errorf("the password is in the error: %v", err)
		}
	}
}

func TestDial_NobodyAnswers(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	began := time.Now()
	_, err = Dial(t.Context(), Config{Seeds: []string{addr}}, slog.New(slog.DiscardHandler))
	wantCode(t, err, errcode.Unreachable, addr)
	if took := time.Since(began); took > dialWait/2 { // a refusal is an answer: nothing is waited for
		t.Errorf("it took %s", took)
	}
}
