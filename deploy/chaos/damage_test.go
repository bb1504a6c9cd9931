package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemark-dev/tidemark/processor/model"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

const damagePartitions = 2

// album is a site with some history, and what its pages say.
type album struct {
	dir   string // of the stopped site; copies of it are damaged
	ids   []stream.ID
	pages map[stream.ID]map[string]row
}

// newAlbum makes one: records that were changed, deleted and added again, over several processes, so that there is more than one file of
// each kind.
func newAlbum(t *testing.T) *album {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 1))
	a := &album{dir: t.TempDir(), pages: map[stream.ID]map[string]row{}}
	for i := range 4 {
		a.ids = append(a.ids, stream.ID{Environment: "dev", Integration: "crm", Connection: fmt.Sprintf("acme-%d", i), Model: "Contact"})
	}
	s := newSite(t, a.dir, damagePartitions)
	for range 3 {
		s.start()
		var events []model.RawEvent
		for range 1500 {
			id, rec := a.ids[rng.IntN(len(a.ids))], fmt.Sprintf("r%d", rng.IntN(600))
			switch rng.IntN(8) {
			case 0:
				r := event.Raw{Type: event.RawDelete, ID: []byte(rec)}
				events = append(events, model.RawEvent{Key: []byte(id.Key()), Headers: r.Headers(nil)})
			default:
				events = append(events, saveEvent(id, rec, fmt.Sprintf(`{"id":%q,"v":%d,"text":%q}`, rec, rng.IntN(3), strings.Repeat("lorem ", rng.IntN(60)))))
			}
		}
		s.write(events)
		a.pages = s.audited(a.ids)
		s.stop()
	}
	return a
}

// TestDamage_IsSetAsideAndRebuilt damages the local state of a stopped site in every way that a disk or a hand might. The next process
// must notice, build the state again from the log, and answer as before: the same records under the same cursors.
func TestDamage_IsSetAsideAndRebuilt(t *testing.T) {
	a := newAlbum(t)
	rng := newRand(t)
	for _, c := range []struct {
		name    string
		pattern string // of files below the data directory
		do      func(t *testing.T, path string)
		aside   bool // it cannot be mended: the state must be set aside
	}{
		{"rows: a bit in every page", "state/p*/meta/*.sst", flipEvery(512), true},
		{"rows: cut in half", "state/p*/meta/*.sst", cut(0.5), true},
		{"rows: emptied", "state/p*/meta/*.sst", cut(0), true},
		{"rows: removed", "state/p*/meta/*.sst", remove, true},
		{"manifest: removed", "state/p*/meta/MANIFEST-*", remove, true},
		{"manifest: a bit in every page", "state/p*/meta/MANIFEST-*", flipEvery(64), true},
		{"manifest: cut in half", "state/p*/meta/MANIFEST-*", cut(0.5), false},
		{"manifest: emptied", "state/p*/meta/MANIFEST-*", cut(0), true},
		{"markers: removed", "state/p*/meta/marker.*", remove, false},
		{"options: garbage", "state/p*/meta/OPTIONS-*", flipEvery(16), false},
		{"payloads: a bit in every page", "state/p*/seg/*.seg", flipEvery(512), false},
		{"payloads: cut in half", "state/p*/seg/*.seg", cut(0.5), false},
		{"payloads: emptied", "state/p*/seg/*.seg", cut(0), false},
		{"payloads: removed", "state/p*/seg/*.seg", remove, false},
		{"all of it: removed", "state/p*", remove, false},
		{"one partition: removed", "state/p1", remove, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			a.damaged(t, c.pattern, c.do, c.aside)
		})
	}
	// A bit anywhere, which some of the files do not even notice.
	files, err := filepath.Glob(filepath.Join(a.dir, "state/p*/*/*"))
	must(t, err)
	for i := range max(4, setting(t, "TIDEMARK_CHAOS_CYCLES", 0)/2) {
		path, err := filepath.Rel(a.dir, files[rng.IntN(len(files))])
		must(t, err)
		place, bit := rng.Float64(), rng.IntN(8)
		t.Run(fmt.Sprintf("one bit %d", i), func(t *testing.T) {
			t.Parallel()
			t.Logf("bit %d at %.4f of %s", bit, place, path)
			a.damaged(t, path, func(t *testing.T, path string) {
				text, err := os.ReadFile(path)
				must(t, err)
				if len(text) > 0 {
					text[int(place*float64(len(text)))] ^= 1 << bit
				}
				must(t, os.WriteFile(path, text, 0o600))
			}, false)
		})
	}
}

// damaged starts a process on a damaged copy.
func (a *album) damaged(t *testing.T, pattern string, do func(*testing.T, string), aside bool) {
	dir := filepath.Join(t.TempDir(), "copy")
	must(t, os.CopyFS(dir, os.DirFS(a.dir)))
	s := newSite(t, dir, damagePartitions)
	s.log.allow("local state set aside")
	files := s.files(pattern)
	if len(files) == 0 {
		t.Fatalf("no file is like %s", pattern)
	}
	for _, path := range files {
		do(t, path)
	}
	s.start()
	check := func(want map[stream.ID]map[string]row) {
		t.Helper()
		for id, rows := range want {
			eventually(t, startWait, func() string {
				have, err := s.rest(id, "", rand.New(rand.NewPCG(1, 1)))
				if err != nil {
					return err.Error()
				}
				return differ(id, have, rows, 0)
			})
		}
	}
	check(a.pages)
	// It goes on as if nothing had been.
	var events []model.RawEvent
	for i := range 200 {
		for _, id := range a.ids {
			rec := fmt.Sprintf("r%d", i*3)
			events = append(events, saveEvent(id, rec, fmt.Sprintf(`{"id":%q,"after":true}`, rec)))
		}
	}
	s.write(events)
	now := s.audited(a.ids)
	set := s.files("state/p*.quarantine-*")
	if aside && len(set) == 0 {
		t.Errorf("no state was set aside")
	}
	if (len(set) > 0) != (s.log.find("local state set aside") != "") {
		t.Errorf("set aside: %q; said: %q", set, s.log.find("local state set aside"))
	}
	s.stop()
	s.start()
	check(now)
}

func flipEvery(n int) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		text, err := os.ReadFile(path)
		must(t, err)
		for i := n / 2; i < len(text); i += n {
			text[i] ^= 0x10
		}
		must(t, os.WriteFile(path, text, 0o600))
	}
}

func cut(share float64) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		info, err := os.Stat(path)
		must(t, err)
		must(t, os.Truncate(path, int64(float64(info.Size())*share)))
	}
}

func remove(t *testing.T, path string) { must(t, os.RemoveAll(path)) }
