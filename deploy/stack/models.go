package stack

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/goccy/go-yaml"

	"github.com/tidemark-dev/tidemark/processor/decide"
	"github.com/tidemark-dev/tidemark/processor/detect"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// ModelOptions is one entry of the models file: how records of a model are compared. Of several entries that fit a stream the first
// counts. Empty parts of the name fit everything.
type ModelOptions struct {
	Environment string `yaml:"environment"`
	Integration string `yaml:"integration"`
	Model       string `yaml:"model"`

	Ignore         []string `yaml:"ignore"`           // JSON Pointers of members that make no change, "*" matches any name or index
	Before         string   `yaml:"before"`           // none or full: whether UPDATED carries the record as it was
	Changed        *bool    `yaml:"changed"`          // name the changed members; default true
	Restore        *bool    `yaml:"restore"`          // an unchanged save brings a pruned payload back; default true
	MaxDeleteRatio float64  `yaml:"max_delete_ratio"` // deletions of a run above this share are held
}

type modelsFile struct {
	Models []ModelOptions `yaml:"models"`
}

// LoadModels reads a models file (YAML): a list named models. A name that it does not know is an error, for a setting that is silently
// ignored is worse than none.
func LoadModels(path string) (func(stream.ID) decide.Model, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the models file: %w", err)
	}
	return parseModels(text)
}

func parseModels(text []byte) (func(stream.ID) decide.Model, error) {
	var file modelsFile
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(&file); err != nil && len(bytes.TrimSpace(text)) > 0 {
		return nil, fmt.Errorf("models file: %w", err)
	}
	var errs []error
	models := make([]decide.Model, len(file.Models))
	for i, o := range file.Models {
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("models file: entry %d: %w", i+1, fmt.Errorf(format, args...)))
		}
		if _, err := detect.New(detect.Options{Ignore: o.Ignore}); err != nil {
			bad("ignore: %w", err)
		}
		switch o.Before {
		case "":
			o.Before = string(decide.BeforeNone)
		case string(decide.BeforeNone), string(decide.BeforeFull):
		default:
			bad("before: %q, want none or full", o.Before)
		}
		if o.MaxDeleteRatio < 0 || o.MaxDeleteRatio > 1 {
			bad("max_delete_ratio: %v, want 0 to 1", o.MaxDeleteRatio)
		}
		models[i] = decide.Model{
			Ignore: o.Ignore, Before: decide.Before(o.Before), NoChanged: o.Changed != nil && !*o.Changed,
			NoRestore: o.Restore != nil && !*o.Restore, MaxDeleteRatio: o.MaxDeleteRatio,
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return func(id stream.ID) decide.Model {
		fits := func(want, have string) bool { return want == "" || want == have }
		for i, o := range file.Models {
			if fits(o.Environment, id.Environment) && fits(o.Integration, id.Integration) && fits(o.Model, id.Model) {
				return models[i]
			}
		}
		return decide.Model{}
	}, nil
}
