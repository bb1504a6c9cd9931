package draw

import (
	"math"
	"time"
)

// ticks are round values from low, or below it, to at least high; the last is the top of the axis. whole: none between whole numbers.
func ticks(low, high float64, count int, whole bool) []float64 {
	if high <= low {
		high = low + 1
	}
	raw := (high - low) / float64(count)
	size := math.Pow(10, math.Floor(math.Log10(raw)))
	step := size * 10
	for _, m := range []float64{1, 2, 2.5, 5} {
		if size*m >= raw && !(whole && size*m != math.Trunc(size*m)) {
			step = size * m
			break
		}
	}
	if whole {
		step = max(1, step)
	}
	var out []float64
	for v := math.Floor(low/step) * step; ; v += step {
		out = append(out, v)
		if v >= high-step*1e-9 {
			return out
		}
	}
}

var timeSteps = []time.Duration{
	time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute,
	30 * time.Minute, time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 2 * 24 * time.Hour, 7 * 24 * time.Hour,
	30 * 24 * time.Hour, 90 * 24 * time.Hour, 365 * 24 * time.Hour, 5 * 365 * 24 * time.Hour,
}

// timeTicks are at most count round times within a range, and how to write them.
func timeTicks(from, to time.Time, count int) (at []time.Time, layout string) {
	step := timeSteps[len(timeSteps)-1]
	for _, s := range timeSteps {
		if to.Sub(from)/s <= time.Duration(count) {
			step = s
			break
		}
	}
	for t := from.UTC().Truncate(step); !t.After(to); t = t.Add(step) {
		if !t.Before(from) {
			at = append(at, t)
		}
	}
	switch {
	case step < time.Minute:
		layout = "15:04:05"
	case step < 24*time.Hour:
		layout = "15:04"
	case step < 30*24*time.Hour:
		layout = "Jan 2"
	default:
		layout = "Jan 2006"
	}
	return at, layout
}
