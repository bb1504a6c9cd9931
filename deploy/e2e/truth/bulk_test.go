package truth_test

import (
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/tidemark-dev/tidemark/deploy/e2e/truth"
	"github.com/tidemark-dev/tidemark/ingest/bulk"
)

// The reader of bulk loads sees in every real file what encoding/json sees: as many records, the same ids twice, the same winner for
// each id with the same value.
func TestBulk_ReadsTheBrands(t *testing.T) {
	dir := truth.Brands(t)
	for _, s := range brands(t) {
		open := func() (io.ReadCloser, error) { return os.Open(filepath.Join(dir, s.File)) }
		p, err := bulk.Scan(open, bulk.Options{IDField: "title"})
		if err != nil {
			t.Fatalf("%s: %v", s.File, err)
		}
		if p.Records != int64(s.Records) || !reflect.DeepEqual(p.Duplicates, s.Duplicates) {
			t.Errorf("%s: %d records, %v twice; want %d, %v", s.File, p.Records, p.Duplicates, s.Records, s.Duplicates)
		}
		live, err := replay(p, open)
		if err != nil {
			t.Fatalf("%s: %v", s.File, err)
		}
		if !reflect.DeepEqual(live, s.Live) {
			t.Errorf("%s: the winners are not the live records", s.File)
		}
	}
}

func replay(p *bulk.Plan, open func() (io.ReadCloser, error)) (map[string]string, error) {
	in, err := open()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	y, err := p.Replay(in)
	if err != nil {
		return nil, err
	}
	live := map[string]string{}
	for {
		rec, err := y.Next()
		if err == io.EOF {
			return live, nil
		}
		if err != nil {
			return nil, err
		}
		if live[rec.ID], err = truth.Canonical(rec.Payload); err != nil {
			return nil, err
		}
	}
}
