package cli

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-dev/tidemark/deploy/stack"
)

// projectionFlags are about ClickHouse.
type projectionFlags struct {
	cfg    stack.ProjectionsConfig
	off    bool
	memory byteSize
}

// clickhousePasswordEnv has no flag: arguments can be read by everybody on the machine.
const clickhousePasswordEnv = "TIDEMARK_CLICKHOUSE_PASSWORD"

func (p *projectionFlags) register(cmd *cobra.Command) {
	p.cfg = stack.DefaultProjectionsConfig()
	p.memory = byteSize(p.cfg.MemoryBytes)
	f := cmd.Flags()
	f.StringVar(&p.cfg.DSN, "clickhouse", "", "`DSN` of a ClickHouse server, http:// or clickhouse://, its password in "+clickhousePasswordEnv+"; without it the engine is embedded")
	f.StringVar(&p.cfg.Listen, "clickhouse-listen", p.cfg.Listen, "`host:port` of the embedded ClickHouse; port 0 takes a free one")
	f.StringVar(&p.cfg.Library, "clickhouse-library", "", "`file` of libchdb; without it the cache is looked up, and then it is fetched with npm")
	f.StringVar(&p.cfg.Binary, "clickhouse-binary", "", "a clickhouse `program` to run in place of the library")
	f.Var(&p.memory, "clickhouse-memory", "memory that the embedded ClickHouse may use, beside --memory")
	f.StringVar(&p.cfg.Database, "clickhouse-database", p.cfg.Database, "database of the projections")
	f.BoolVar(&p.off, "no-projections", false, "run without ClickHouse: no statistics, no history")
}

// config checks what can be checked without I/O.
func (p *projectionFlags) config(env map[string]string) (stack.ProjectionsConfig, error) {
	c := p.cfg
	c.Enabled, c.MemoryBytes = !p.off, int64(p.memory)
	if c.DSN == "" {
		return c, nil
	}
	u, err := url.Parse(c.DSN)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "clickhouse" {
		// The text may hold a password.
		return c, usagef("For example: --clickhouse http://user@127.0.0.1:8123", "--clickhouse is no address of a ClickHouse server")
	}
	if _, ok := u.User.Password(); ok {
		return c, usagef("Put it into the environment variable "+clickhousePasswordEnv+".", "--clickhouse has a password in it, which everybody on the machine can read")
	}
	if password := env[clickhousePasswordEnv]; password != "" {
		u.User = url.UserPassword(u.User.Username(), password)
	}
	c.DSN = u.String()
	return c, nil
}

const projectionsPoll = 200 * time.Millisecond

// watchProjections says when the projections can be asked, and what keeps them, until they can.
func (a *app) watchProjections(ctx context.Context, s *stack.Stack) {
	running := s.ProjectionsRunning()
	if running == nil {
		return
	}
	tick := time.NewTicker(projectionsPoll)
	defer tick.Stop()
	fetch := a.newProgress("fetching the ClickHouse library")
	fetching, told := false, ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-running:
			fetch.end()
			a.sayProjections(s.Projections(), s.Endpoints())
			return
		case <-tick.C:
		}
		switch st := s.Projections(); {
		case st.Phase == stack.ProjectionsFetching:
			if !fetching && !a.json {
				fmt.Fprintln(a.out, "projections: fetching the ClickHouse library once, 178 MB; everything else runs already")
			}
			fetching = true
			fetch.bytes(st.Fetched.Step, st.Fetched.Bytes, st.Fetched.Total)
		case st.Phase == stack.ProjectionsWaiting && st.Reason != told:
			told = st.Reason
			fetch.end()
			if a.json {
				_ = a.printJSON(upEvent{Event: "projections", Detail: "waiting: " + st.Reason})
			} else {
				fmt.Fprintln(a.out, "projections: not running, everything else is, and they catch up later: "+st.Reason)
			}
		}
	}
}

// sayProjections says how to ask.
func (a *app) sayProjections(st stack.ProjectionsStatus, at stack.Endpoints) {
	if a.json {
		_ = a.printJSON(upEvent{Event: "projections", Detail: "running", ClickHouse: st.Addr, Database: st.Database, DSN: st.ReadDSN})
		return
	}
	if !st.Embedded {
		fmt.Fprintf(a.out, "\nprojections: in database %s of your ClickHouse; the views are %s.v1_*\n\n", st.Database, st.Database)
		return
	}
	u, err := url.Parse(st.ReadDSN)
	if err != nil {
		return
	}
	fmt.Fprintf(a.out, `
projections: ClickHouse is at http://%s, database %s, views v1_*

  DSN       %s   (reads only)
  curl      curl '%s' --data 'SELECT model, records, last_change_at FROM v1_streams FORMAT PrettyCompact'
  Terminal  %s clickhouse --data %s --query 'SELECT * FROM v1_runs ORDER BY started_at DESC LIMIT 5'
            %s stats

`, st.Addr, st.Database, st.ReadDSN, curlURL(u, st.Database), a.program, shellQuote(at.DataDir), a.program)
}

// curlURL is the DSN as curl takes it.
func curlURL(u *url.URL, database string) string {
	c := url.URL{Scheme: "http", User: u.User, Host: u.Host, Path: "/", RawQuery: "database=" + url.QueryEscape(database)}
	return c.String()
}
