package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-dev/tidemark/ingest"
	"github.com/tidemark-dev/tidemark/ingest/bulk"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

type loadFlags struct {
	kafka          kafkaFlags
	stream         streamFlags
	id             string
	allowEmpty     bool
	maxDeleteRatio float64
	timeout        time.Duration
}

func (a *app) loadCommand() *cobra.Command {
	var l loadFlags
	cmd := &cobra.Command{
		Use:   "load FILE...",
		Short: "Load files, each as a full copy of a stream",
		Long: "Load files into a stream, in the order given, each as a full copy: records that a file leaves out are deleted. A file is\n" +
			"a JSON array of objects or NDJSON, plain or gzip; - is standard input. If an id occurs more than once in a file, the last\n" +
			"one counts. Each file is checked as a whole before anything of it is written.\n\n" +
			"If a file would delete so much that it looks like a mistake, its deletions are held, loading stops, and the exit code\n" +
			"is 3: see tidemark held.",
		Example: "  tidemark load --connection acme --model Brand --id title 2020-07.json.gz 2020-10.json.gz\n" +
			"  curl -s https://example.com/contacts.ndjson | tidemark load --connection acme --model Contact -\n" +
			"  tidemark load --connection acme --model Brand --id title --json *.json.gz",
		Args: arguments(1, -1, "at least one FILE"),
		RunE: func(cmd *cobra.Command, files []string) error { return a.load(cmd, &l, files) },
	}
	l.kafka.registerClient(cmd)
	l.stream.register(cmd)
	f := cmd.Flags()
	f.StringVar(&l.id, "id", "id", "`member` that holds a record's id: a name, names with dots, or a JSON Pointer")
	f.BoolVar(&l.allowEmpty, "allow-empty", false, "let a file without records delete everything")
	f.Float64Var(&l.maxDeleteRatio, "max-delete-ratio", 0, "hold deletions above this share of the records, 0 to 1 (default: above half and above 1,000)")
	f.DurationVar(&l.timeout, "timeout", 15*time.Minute, "how long to wait for the processor, for each file")
	return cmd
}

func (a *app) load(cmd *cobra.Command, l *loadFlags, files []string) (err error) {
	ctx := cmd.Context()
	id, err := l.stream.id()
	if err != nil {
		return err
	}
	complete := ingest.CompleteOptions{AllowEmpty: l.allowEmpty}
	if cmd.Flags().Changed("max-delete-ratio") {
		if !(l.maxDeleteRatio >= 0 && l.maxDeleteRatio <= 1) {
			return usagef("", "--max-delete-ratio is %v, want 0 to 1", l.maxDeleteRatio)
		}
		complete.MaxDeleteRatio = &l.maxDeleteRatio
	}
	if l.timeout <= 0 {
		return usagef("", "--timeout is %s, want a positive duration", l.timeout)
	}
	if countOf(files, "-") > 1 {
		return usagef("", "standard input can be read once only")
	}
	ld, closeLoader, err := a.newLoader(ctx, &l.kafka, id)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLoader()) }()
	ld.options = bulk.Options{IDField: l.id}
	ld.complete, ld.wait, ld.sync = complete, l.timeout, "load"

	out := loadSummary{app: a}
	defer out.print()
	for i, name := range files {
		r, err := a.loadFile(ctx, ld, name)
		if err != nil {
			return notLoaded(err, files[i+1:])
		}
		if err := out.add(r); err != nil {
			return err
		}
		switch {
		case r.Held > 0:
			return heldError(r, id, &l.kafka, files[i+1:])
		case r.dead > 0:
			return notLoaded(deadError(r), files[i+1:])
		}
	}
	return nil
}

func countOf(list []string, s string) int {
	n := 0
	for _, x := range list {
		if x == s {
			n++
		}
	}
	return n
}

func (a *app) loadFile(ctx context.Context, ld *loader, name string) (*loadResult, error) {
	in, err := bulk.OpenInput(name, a.in, bulk.SpoolOptions{})
	if err != nil {
		return nil, err
	}
	p := a.newProgress(name)
	r, err := ld.load(ctx, name, in.Open, p)
	p.end()
	return r, errors.Join(err, in.Close())
}

// newLoader connects.
func (a *app) newLoader(ctx context.Context, k *kafkaFlags, id stream.ID) (*loader, func() error, error) {
	conn, err := a.connect(ctx, k)
	if err != nil {
		return nil, nil, err
	}
	p, err := conn.producer(ctx)
	if err != nil {
		return nil, nil, err
	}
	closeProducer := func() error {
		wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWait)
		defer cancel()
		return p.Close(wait)
	}
	return &loader{conn: conn, producer: p, stream: id}, closeProducer, nil
}

// notLoaded adds to an error which files were not reached.
func notLoaded(err error, rest []string) error {
	if len(rest) == 0 {
		return err
	}
	e := explain(err)
	e.message += fmt.Sprintf(" (not loaded: %s)", plural(len(rest), "file after it", "files after it"))
	return e
}

// deadError says that some records of a file could not be applied.
func deadError(r *loadResult) error {
	return &commandError{
		exit: exitFailure, code: string(errcode.HeldDeadLetters),
		message: fmt.Sprintf("%s: %s could not be applied", r.File, plural(r.dead, "record", "records")),
		hint:    "The dead-letter topic has them, each with its reason.",
	}
}

// heldError says what to do about held deletions.
func heldError(r *loadResult, id stream.ID, k *kafkaFlags, rest []string) error {
	where := strings.TrimSpace(k.args() + " " + streamArgs(id))
	e := &commandError{exit: exitPerson, code: string(r.reason)}
	e.message = fmt.Sprintf("%s: %s held: %s", r.File, plural(r.Held, "deletion is", "deletions are"), r.detail)
	if len(rest) > 0 {
		e.message += fmt.Sprintf("; %s after it not loaded", plural(len(rest), "file is", "files are"))
	}
	e.hint = fmt.Sprintf("If they are right: tidemark held approve %s %d. If not: tidemark held discard %s %d.", where, r.run, where, r.run)
	return e
}

// loadSummary shows the results: each at once with --json, else as a table at the end.
type loadSummary struct {
	app     *app
	results []*loadResult
}

func (s *loadSummary) add(r *loadResult) error {
	s.results = append(s.results, r)
	if s.app.json {
		return s.app.printJSON(r)
	}
	return nil
}

const duplicatesShown = 10

func (s *loadSummary) print() {
	if s.app.json || len(s.results) == 0 {
		return
	}
	t := table{head: []string{"file", "added", "updated", "deleted", "unchanged", "held", "twice"}}
	for _, r := range s.results {
		t.row(r.File, count(r.Added), count(r.Updated), count(r.Deleted), count(r.Unchanged), count(r.Held), count(len(r.Duplicates)))
	}
	t.print(s.app.out)
	for _, r := range s.results {
		printDuplicates(s.app.out, r)
	}
}

func printDuplicates(w io.Writer, r *loadResult) {
	n := len(r.Duplicates)
	if n == 0 {
		return
	}
	shown := make([]string, 0, duplicatesShown)
	for _, id := range r.Duplicates[:min(n, duplicatesShown)] {
		shown = append(shown, fmt.Sprintf("%q", printable(id, 60)))
	}
	if n > duplicatesShown {
		shown = append(shown, "…")
	}
	fmt.Fprintf(w, "%s: %s more than once, the last one counts: %s\n", r.File, plural(n, "id occurs", "ids occur"), strings.Join(shown, ", "))
}
