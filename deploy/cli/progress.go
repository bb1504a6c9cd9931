package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// progress draws one line that changes, on a terminal; anywhere else it draws nothing. Safe for concurrent use.
type progress struct {
	w     io.Writer // nil: draws nothing
	now   func() time.Time
	mu    sync.Mutex
	label string
	began time.Time
	drawn time.Time
	shown bool
}

const (
	progressEvery = 100 * time.Millisecond
	barWidth      = 30
	clearLine     = "\r\x1b[K"
)

func (a *app) newProgress(label string) *progress {
	p := &progress{label: label, now: time.Now}
	if a.errTerminal {
		p.w = a.err
	}
	p.began = p.now()
	return p
}

// step shows that done of total bytes are read, and records written.
func (p *progress) step(done, total, records int64) {
	p.draw(func(elapsed time.Duration) string {
		share := 1.0
		if total > 0 {
			share = min(1, float64(done)/float64(total))
		}
		full := int(share * barWidth)
		rate := float64(records) / max(elapsed.Seconds(), 0.001)
		return fmt.Sprintf("[%s%s] %3.0f%%  %s  %s/s", strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), share*100,
			plural(records, "record", "records"), count(int64(rate)))
	})
}

// bytes shows that done of total bytes are there.
func (p *progress) bytes(step string, done, total int64) {
	p.draw(func(time.Duration) string {
		return fmt.Sprintf("%s %s of %s MB", step, count(done>>20), count(total>>20))
	})
}

// wait shows what is being waited for.
func (p *progress) wait(what string) {
	p.draw(func(elapsed time.Duration) string { return fmt.Sprintf("%s, %s", what, elapsed.Round(time.Second)) })
}

func (p *progress) draw(text func(elapsed time.Duration) string) {
	if p.w == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if p.shown && now.Sub(p.drawn) < progressEvery {
		return
	}
	p.drawn, p.shown = now, true
	fmt.Fprintf(p.w, "%s%s  %s", clearLine, p.label, text(now.Sub(p.began)))
}

// end takes the line away.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w != nil && p.shown {
		fmt.Fprint(p.w, clearLine)
		p.shown = false
	}
}
