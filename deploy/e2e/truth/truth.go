package truth

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// idField is the member that identifies a record of the brand data.
const idField = "title"

// Step is what loading one file must give, after the files before it. All lists are sorted by bytes and never nil.
type Step struct {
	File       string // base name
	Records    int    // objects in the file, those that lose to a later one with the same title included
	Added      []string
	Updated    []string
	Deleted    []string
	Unchanged  []string
	Duplicates []string // titles of more than one object, each once; each is in one of the lists above as well

	// Changed has the top-level members of each updated record that were added, removed or given another value.
	Changed map[string][]string

	// Live is the whole collection after the file: id to value, as Canonical writes it. Each step has a map of its own.
	Live map[string]string
}

// Load reads the files *.json and *.json.gz of a directory in the order of their names.
func Load(dir string) ([]Step, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return nil, fmt.Errorf("listing the snapshots: %w", err)
	}
	var files []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".json") || strings.HasSuffix(e.Name(), ".json.gz") {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("listing the snapshots: no file *.json or *.json.gz in %s", dir)
	}
	return LoadFiles(files...)
}

// LoadFiles reads files in the order given, as loads into an empty collection one after the other.
func LoadFiles(files ...string) ([]Step, error) {
	var steps []Step
	before := map[string]any{}
	for _, file := range files {
		records, err := readFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading the snapshot %s: %w", file, err)
		}
		step, after, err := compare(before, records)
		if err != nil {
			return nil, fmt.Errorf("comparing the snapshot %s: %w", file, err)
		}
		step.File = filepath.Base(file)
		steps = append(steps, step)
		before = after
	}
	return steps, nil
}

// compare gives the step from the state before to the state that the records make, and that state: id to decoded object.
func compare(before map[string]any, records []map[string]any) (Step, map[string]any, error) {
	step := Step{
		Records: len(records),
		Added:   []string{}, Updated: []string{}, Deleted: []string{}, Unchanged: []string{}, Duplicates: []string{},
		Changed: map[string][]string{}, Live: map[string]string{},
	}
	after := map[string]any{}
	for i, r := range records {
		id, err := recordID(r)
		if err != nil {
			return Step{}, nil, fmt.Errorf("record %d: %w", i, err)
		}
		if _, twice := after[id]; twice && !slices.Contains(step.Duplicates, id) {
			step.Duplicates = append(step.Duplicates, id)
		}
		after[id] = r
	}
	for id, now := range after {
		text, err := canonical(now)
		if err != nil {
			return Step{}, nil, fmt.Errorf("record %q: %w", id, err)
		}
		step.Live[id] = text
		then, known := before[id]
		switch {
		case !known:
			step.Added = append(step.Added, id)
		case reflect.DeepEqual(then, now):
			step.Unchanged = append(step.Unchanged, id)
		default:
			step.Updated = append(step.Updated, id)
			step.Changed[id] = changedMembers(then.(map[string]any), now.(map[string]any))
		}
	}
	for id := range before {
		if _, still := after[id]; !still {
			step.Deleted = append(step.Deleted, id)
		}
	}
	for _, list := range [][]string{step.Added, step.Updated, step.Deleted, step.Unchanged, step.Duplicates} {
		slices.Sort(list)
	}
	return step, after, nil
}

func changedMembers(then, now map[string]any) []string {
	var names []string
	for name, value := range now {
		if old, had := then[name]; !had || !reflect.DeepEqual(old, value) {
			names = append(names, name)
		}
	}
	for name := range then {
		if _, has := now[name]; !has {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func recordID(r map[string]any) (string, error) {
	switch id := r[idField].(type) {
	case string:
		if id != "" {
			return id, nil
		}
	case json.Number:
		return id.String(), nil
	}
	return "", fmt.Errorf("the member %q is %v, not an id", idField, r[idField])
}

func readFile(name string) (records []map[string]any, err error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(name, ".gz") {
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		if data, err = io.ReadAll(z); err != nil {
			return nil, err
		}
	}
	if err := decode(data, &records); err != nil {
		return nil, err
	}
	return records, nil
}

// Canonical writes a JSON object in one fixed form: members sorted by name at every level, no white space, numbers as they are
// written. Two objects are equal by the rules of this package exactly when their canonical forms are the same string.
func Canonical(object []byte) (string, error) {
	var v map[string]any
	if err := decode(object, &v); err != nil {
		return "", fmt.Errorf("decoding an object: %w", err)
	}
	if v == nil {
		return "", errors.New("decoding an object: it is null")
	}
	return canonical(v)
}

func canonical(v any) (string, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out) // sorts the members of maps
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", fmt.Errorf("writing the canonical form: %w", err)
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

// decode is json.Unmarshal with numbers kept as their text.
func decode(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more text follows the JSON value")
	}
	return nil
}
