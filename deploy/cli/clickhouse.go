package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse"
	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/library"
	"github.com/tidemark-dev/tidemark/deploy/stack"
)

// Child runs what this process was started for if it is the engine of another one. Call it before anything else; see
// devclickhouse.RunChild.
func Child() bool { return devclickhouse.RunChild() }

// Codes of errors that come from ClickHouse.
const (
	codeClickHouseUnreachable = "clickhouse.unreachable"
	codeClickHouseRefused     = "clickhouse.refused"
)

type clickhouseFlags struct {
	data, query, format, database string
	write                         bool
}

func (a *app) clickhouseCommand() *cobra.Command {
	var c clickhouseFlags
	cmd := &cobra.Command{
		Use:   "clickhouse",
		Short: "Ask the embedded ClickHouse in SQL",
		Long: "Ask the ClickHouse that a running `up` embeds: with --query, or at a prompt, where a statement ends with a semicolon. The views\n" +
			"are named v1_*; SHOW TABLES LIKE 'v1_%' lists them, DESCRIBE says what their columns mean.",
		Example: "  tidemark clickhouse\n" +
			"  tidemark clickhouse --query \"SELECT * FROM v1_streams\"\n" +
			"  tidemark clickhouse --query \"SELECT * FROM v1_runs\" --format CSVWithNames > runs.csv",
		Args: arguments(0, 0, "nothing"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.clickhouse(cmd.Context(), &c) },
	}
	f := cmd.Flags()
	f.StringVar(&c.data, "data", stack.DataDirDefault, "data `directory` of the running stack")
	f.StringVar(&c.query, "query", "", "one `statement`; without it there is a prompt")
	f.StringVar(&c.format, "format", "", "output `format` of ClickHouse (default PrettyCompact, with --json JSONEachRow)")
	f.StringVar(&c.database, "database", stack.DefaultProjectionsConfig().Database, "database")
	f.BoolVar(&c.write, "write", false, "use the login that may write")
	cmd.AddCommand(a.clickhouseFetchCommand())
	return cmd
}

func (a *app) clickhouseFetchCommand() *cobra.Command {
	var tarball string
	cmd := &cobra.Command{
		Use:     "fetch",
		Example: "  tidemark clickhouse fetch\n  tidemark clickhouse fetch --package chdb.tgz",
		Short:   "Fetch the ClickHouse library into the cache",
		Long:    "Fetch the library that the embedded ClickHouse needs: a download of 178 MB with npm, 566 MB on the disk. `up` does it by itself.",
		Args:    arguments(0, 0, "nothing"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p := a.newProgress("fetching the ClickHouse library")
			path, err := library.Fetch(cmd.Context(), library.Options{Tarball: tarball, Progress: func(f library.Progress) { p.bytes(f.Step, f.Bytes, f.Total) }})
			p.end()
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]string{"library": path})
			}
			_, err = fmt.Fprintln(a.out, path)
			return err
		},
	}
	cmd.Flags().StringVar(&tarball, "package", "", "`file` of the package, for machines without a network")
	return cmd
}

func (a *app) clickhouse(ctx context.Context, c *clickhouseFlags) error {
	login, err := devclickhouse.Lookup(filepath.Join(c.data, "clickhouse"), c.write)
	if errors.Is(err, devclickhouse.ErrNone) {
		return usagef("Start it with `up`, or say where with --data.", "there is no embedded ClickHouse in %s", c.data)
	}
	if err != nil {
		return err
	}
	if c.format == "" {
		c.format = "PrettyCompact"
		if a.json {
			c.format = "JSONEachRow"
		}
	}
	if c.query != "" {
		return a.ask(ctx, c, login, c.query)
	}
	in := bufio.NewScanner(a.in)
	in.Buffer(nil, 1<<20)
	var statement strings.Builder
	for a.prompt(statement.Len() > 0); in.Scan(); a.prompt(statement.Len() > 0) {
		line := strings.TrimSpace(in.Text())
		if statement.Len() == 0 && (line == "exit" || line == "quit" || line == `\q`) {
			return nil
		}
		fmt.Fprintln(&statement, line)
		if !strings.HasSuffix(line, ";") {
			if strings.TrimSpace(statement.String()) == "" {
				statement.Reset()
			}
			continue
		}
		text := strings.TrimSuffix(strings.TrimSpace(statement.String()), ";")
		statement.Reset()
		if err := a.ask(ctx, c, login, text); err != nil {
			if !a.inTerminal || ctx.Err() != nil {
				return err
			}
			a.report(err)
		}
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("reading statements: %w", err)
	}
	if text := strings.TrimSpace(statement.String()); text != "" { // the last of a file
		return a.ask(ctx, c, login, text)
	}
	return nil
}

// prompt shows where to type, on a terminal.
func (a *app) prompt(more bool) {
	if !a.inTerminal {
		return
	}
	if more {
		fmt.Fprint(a.err, "       … ")
	} else {
		fmt.Fprint(a.err, "tidemark ❯ ")
	}
}

// ask runs one statement and copies the answer.
func (a *app) ask(ctx context.Context, c *clickhouseFlags, login devclickhouse.Login, statement string) error {
	params := url.Values{"database": {c.database}, "default_format": {c.format}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+login.Addr+"/?"+params.Encode(), strings.NewReader(statement))
	if err != nil {
		return fmt.Errorf("making the request: %w", err)
	}
	req.Header.Set("X-ClickHouse-User", login.User)
	req.Header.Set("X-ClickHouse-Key", login.Password)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return &commandError{
			exit: exitUnreachable, code: codeClickHouseUnreachable, message: fmt.Sprintf("ClickHouse does not answer at %s: %v", login.Addr, errors.Unwrap(err)),
			hint: "It runs as long as tidemark up does; `tidemark up` says when it can be asked.", err: err,
		}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return &commandError{exit: exitFailure, code: codeClickHouseRefused, message: strings.TrimSpace(string(text)), hint: "DESCRIBE v1_streams, for example, lists the columns of a view."}
	}
	if _, err := io.Copy(a.out, resp.Body); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return nil
}
