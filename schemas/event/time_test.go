package event

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

const layout = "2006-01-02T15:04:05.000Z"

func standardTime(ms int64) string { return time.UnixMilli(ms).UTC().Format(layout) }

// Every day of a whole Gregorian cycle and every 37th of the rest, at a time of day that is another one each day.
func TestAppendTime_AgreesWithTheStandardLibraryOnEveryDay(t *testing.T) {
	var buf []byte
	const day = 86_400_000
	for d := int64(0); d <= timeLast/day; d++ {
		if d > 400*366 {
			d = min(d+36, timeLast/day)
		}
		ms := d*day + d*7919%day
		buf = AppendTime(buf[:0], ms)
		if want := standardTime(ms); string(buf) != want {
			t.Fatalf("%d is %s, want %s", ms, buf, want)
		}
	}
}

func TestAppendTime_AgreesWithTheStandardLibraryInsideDays(t *testing.T) {
	const seed = 1
	r := rand.New(rand.NewPCG(seed, 1))
	var buf []byte
	for range 200_000 {
		ms := r.Int64N(timeLast + 1)
		if buf = AppendTime(buf[:0], ms); string(buf) != standardTime(ms) {
			t.Fatalf("seed %d: %d is %s, want %s", seed, ms, buf, standardTime(ms))
		}
	}
}

func TestAppendTime_ClampsWhatRFC3339CannotWrite(t *testing.T) {
	for ms, want := range map[int64]string{
		0:              "1970-01-01T00:00:00.000Z",
		-1:             "1970-01-01T00:00:00.000Z",
		math.MinInt64:  "1970-01-01T00:00:00.000Z",
		timeLast:       "9999-12-31T23:59:59.999Z",
		timeLast + 1:   "9999-12-31T23:59:59.999Z",
		math.MaxInt64:  "9999-12-31T23:59:59.999Z",
		951782400000:   "2000-02-29T00:00:00.000Z",
		4107542400000:  "2100-03-01T00:00:00.000Z",
		1709251199_999: "2024-02-29T23:59:59.999Z",
	} {
		got := string(AppendTime([]byte("x"), ms))
		if got != "x"+want {
			t.Errorf("%d is %s, want %s", ms, got, want)
		}
		if _, err := time.Parse(time.RFC3339Nano, got[1:]); err != nil {
			t.Error(err)
		}
	}
}
