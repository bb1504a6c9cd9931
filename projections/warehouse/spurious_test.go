package warehouse

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/projections/fold"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// A field that means nothing is touched by most updates, and in the same records again and again; whatever else is frequent is real.
func TestSpuriousUpdates(t *testing.T) {
	type touch struct {
		flags          fold.Flags
		records, times int // each of the first so many records, so many times
		fields         []string
	}
	of := func(records, times int, fields ...string) touch {
		return touch{fold.FlagFieldsKnown, records, times, fields}
	}
	truncated := touch{fold.FlagFieldsKnown | fold.FlagFieldsTruncated, 20, 5, []string{"seen"}}
	cut := touch{fold.FlagFieldsKnown | fold.FlagFieldsTruncated, 20, 9, []string{"the start of a lo"}}
	unknown := touch{0, 20, 50, nil}
	cases := map[string]struct {
		touches []touch
		want    string // updates, spurious, fields, and the sentence; "": no finding
	}{
		"ATimestamp":           {[]touch{of(20, 9, "seen"), of(20, 1, "name"), unknown}, "200\t180\t['seen']\t90 % of 200 updates touched only /seen"},
		"ThreeTimesEachRecord": {[]touch{of(20, 3, "seen")}, "60\t60\t['seen']\t100 % of 60 updates touched only /seen"},
		"OneTimeLess":          {[]touch{of(20, 2, "seen"), of(19, 1, "seen")}, ""},
		"HalfOfTheUpdates":     {[]touch{of(10, 5, "seen"), of(26, 1, "name"), of(24, 1, "hex")}, "100\t50\t['seen']\t50 % of 100 updates touched only /seen"},
		"LessThanHalf":         {[]touch{of(10, 5, "seen"), of(26, 1, "name"), of(25, 1, "hex")}, ""},
		"RealChanges":          {[]touch{of(160, 1, "source"), of(140, 1, "guidelines"), of(100, 1, "hex"), of(55, 1, "name", "source")}, ""},
		"OneFieldOfEachRecord": {[]touch{of(400, 1, "source"), of(40, 2, "hex")}, ""},
		"ManyFieldsOften":      {[]touch{of(10, 9, "a"), of(10, 9, "b"), of(10, 9, "c")}, ""}, // none of them in most updates
		"HotRecordsAmongMany":  {[]touch{of(5, 10, "a"), of(60, 1, "a"), of(5, 4, "b")}, ""},
		"TwoTimestamps":        {[]touch{of(10, 6, "etag", "seen"), of(10, 4, "seen"), of(10, 1, "etag", "name")}, "110\t100\t['seen','etag']\t90 % of 110 updates touched only /seen, /etag"},
		"MostlyWithOthers":     {[]touch{of(10, 4, "seen"), of(10, 5, "name", "seen"), of(10, 3, "seen", "x")}, ""},
		"ANameToEscape":        {[]touch{of(4, 5, "a/b~c")}, "20\t20\t['a/b~c']\t100 % of 20 updates touched only /a~1b~0c"},
		"SixFields":            {[]touch{of(9, 9, "a", "b", "c", "d", "e", "f")}, ""},
		"FiveOfSeven":          {[]touch{of(9, 9, "a", "b", "c", "d", "e"), of(9, 9, "f", "g")}, "162\t81\t['a','b','c','d','e']\t50 % of 162 updates touched only /a, /b, /c, /d, /e"},
		"TruncatedLists":       {[]touch{of(20, 9, "seen"), truncated}, "280\t180\t['seen']\t64 % of 280 updates touched only /seen"},
		"ANameThatIsCut":       {[]touch{of(20, 9, "seen"), cut}, "360\t180\t['seen']\t50 % of 360 updates touched only /seen"},
		"OnlyTruncatedLists":   {[]touch{truncated}, ""},
		"NoFieldAtAll":         {[]touch{of(9, 9)}, ""},
	}
	w := ready(t, 1)
	now := time.Now()
	rows := new(fold.Rows)
	for model, c := range cases {
		id := &stream.ID{Environment: "e", Integration: "i", Connection: "c", Model: model, Variant: "base"}
		for _, touch := range c.touches {
			for i := range touch.records * touch.times {
				rows.Facts = append(rows.Facts, fold.Fact{
					Stream: id, RecordID: fmt.Sprint(i % touch.records), Action: fold.Updated, ChangedAt: now.UnixMilli(), Flags: touch.flags,
					ChangedFields: touch.fields, ChangedCount: uint16(len(touch.fields)), CSN: uint64(1 + len(rows.Facts)),
				})
			}
		}
	}
	for range 2 { // what is written twice counts once
		if err := w.Insert(t.Context(), 1, rows); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]string{}
	for _, line := range lines(t, w, "SELECT model, updates, spurious, fields, finding FROM @spurious_updates(environment = 'e', "+always+")") {
		model, finding, _ := strings.Cut(line, "\t")
		got[model] = finding
	}
	for model, c := range cases {
		if got[model] != c.want {
			t.Errorf("%s: %q, want %q", model, got[model], c.want)
		}
	}
}
