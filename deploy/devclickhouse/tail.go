package devclickhouse

import (
	"bytes"
	"strings"
	"sync"
)

const (
	tailLines     = 20
	tailLineBytes = 400
)

// tail keeps the last lines that are written to it, each cut at tailLineBytes. The engine's lines may quote statements, so they are
// shown only when the child has died.
type tail struct {
	mu    sync.Mutex
	lines []string
	rest  []byte // of a line whose end has not come
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for piece := range bytes.Lines(p) {
		line, ended := bytes.CutSuffix(piece, []byte("\n"))
		t.rest = append(t.rest, line[:min(len(line), max(0, tailLineBytes-len(t.rest)))]...)
		if ended {
			t.lines = append(t.lines, string(t.rest))
			t.rest = t.rest[:0]
			if len(t.lines) > tailLines {
				t.lines = append(t.lines[:0], t.lines[1:]...)
			}
		}
	}
	return len(p), nil
}

// String returns the lines, the last one last.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := t.lines
	if len(t.rest) > 0 {
		lines = append(lines[:len(lines):len(lines)], string(t.rest))
	}
	return strings.Join(lines, "\n")
}
