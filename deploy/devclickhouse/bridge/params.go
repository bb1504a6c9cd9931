package bridge

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chdb"
)

const (
	defaultSessionTimeout = 60 * time.Second
	maxSessionTimeout     = time.Hour
)

// setting is one that a request sets for itself. Its name is one of the engine's, so it may stand in a statement.
type setting struct{ name, value string }

// parameters are what a request says beside its SQL.
type parameters struct {
	query         string // the part of the SQL in the URL
	database      string
	defaultFormat string
	queryID       string

	compress      bool
	decompress    bool
	waitEnd       bool
	noEncoding    bool // enable_http_compression=0
	frameMethod   string
	sessionID     string
	sessionCheck  bool
	sessionIdle   time.Duration
	settings      []setting
	params        map[string]string // placeholders {name:Type}
	logComment    string
	structures    map[string]string // of external tables, by their names
	structFormats map[string]string
}

// Parameters that are not settings. Those that are not read anywhere have no meaning here, and are no error on a server either.
var reserved = []string{"query", "database", "default_format", "compress", "decompress", "query_id", "session_id", "session_timeout",
	"session_check", "user", "password", "quota_key", "wait_end_of_query", "buffer_size", "client_protocol_version", "role",
	"stacktrace", "close_session", "framed"}

// splitParameters sorts the parameters of a URL, and refuses what is none and no setting of the engine either. known holds the
// names of the engine's settings.
func splitParameters(values url.Values, header http.Header, known map[string]bool) (*parameters, error) {
	p := &parameters{
		query:         strings.Join(values["query"], ""),
		database:      last(values, "database"),
		defaultFormat: last(values, "default_format"),
		queryID:       last(values, "query_id"),
		sessionID:     last(values, "session_id"),
		sessionIdle:   defaultSessionTimeout,
		params:        map[string]string{},
		structures:    map[string]string{},
		structFormats: map[string]string{},
	}
	if p.database == "" {
		p.database = header.Get("X-ClickHouse-Database")
	}
	if format := header.Get("X-ClickHouse-Format"); format != "" {
		p.defaultFormat = format
	}
	for _, name := range []string{"compress", "decompress", "wait_end_of_query", "session_check"} {
		on, err := flag(values, name)
		if err != nil {
			return nil, err
		}
		switch name {
		case "compress":
			p.compress = on
		case "decompress":
			p.decompress = on
		case "wait_end_of_query":
			p.waitEnd = on
		case "session_check":
			p.sessionCheck = on
		}
	}
	if text := last(values, "session_timeout"); text != "" {
		seconds, err := strconv.ParseUint(text, 10, 31)
		p.sessionIdle = time.Duration(seconds) * time.Second
		if err != nil || p.sessionIdle > maxSessionTimeout {
			return nil, refuse(codeBadSessionTimeout, "Invalid session timeout: %q", text)
		}
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names) // the same request is the same statement, and the same error
	for _, name := range names {
		if err := p.add(name, last(values, name), known); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// add sorts one parameter. A setting comes before the structure of an external table: "x_format" may be either.
func (p *parameters) add(name, value string, known map[string]bool) error {
	placeholder, isPlaceholder := strings.CutPrefix(name, "param_")
	switch {
	case slices.Contains(reserved, name):
	case isPlaceholder:
		p.params[placeholder] = value
	case name == "readonly":
		// The login says what may be written, the request cannot.
	case name == "log_comment":
		p.logComment = value
	case known[name]:
		p.settings = append(p.settings, setting{name, value})
		switch name {
		case "network_compression_method":
			p.frameMethod = value
		case "enable_http_compression":
			p.noEncoding = value == "0" || value == "false"
		}
	case strings.HasSuffix(name, "_structure"):
		p.structures[strings.TrimSuffix(name, "_structure")] = value
	case strings.HasSuffix(name, "_types"):
		p.structures[strings.TrimSuffix(name, "_types")] = numbered(value)
	case strings.HasSuffix(name, "_format"):
		p.structFormats[strings.TrimSuffix(name, "_format")] = value
	default:
		return refuse(codeUnknownSetting, "Setting %s is neither a builtin setting nor started with the prefix '' registered for user-defined settings", name)
	}
	return nil
}

// numbered names the columns of a list of types, as ClickHouse does for an external table: _1, _2 and so on.
func numbered(types string) string {
	depth, n := 0, 1
	var b strings.Builder
	b.WriteString("_1 ")
	for _, c := range types {
		switch c {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				n++
				b.WriteString(", _" + strconv.Itoa(n) + " ")
				continue
			}
		}
		b.WriteRune(c)
	}
	return b.String()
}

func last(values url.Values, name string) string {
	if v := values[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

func flag(values url.Values, name string) (bool, error) {
	switch v := last(values, name); v {
	case "", "0", "false":
		return false, nil
	case "1", "true":
		return true, nil
	default:
		return false, refuse(codeBadArguments, "%s is %q, and must be 0 or 1", name, v)
	}
}

// arguments returns the placeholders' values as the library takes them.
func (p *parameters) arguments() []chdb.Param {
	out := make([]chdb.Param, 0, len(p.params))
	for name, value := range p.params {
		out = append(out, chdb.Param{Name: name, Value: value})
	}
	return out
}

// quote is a string as a literal of SQL.
func quote(s string) string { return "'" + escaper.Replace(s) + "'" }

// quoteName is an identifier in its quotes.
func quoteName(s string) string { return "`" + escaper.Replace(s) + "`" }

var escaper = strings.NewReplacer(`\`, `\\`, `'`, `\'`, "`", "\\`", "\x00", `\0`)
