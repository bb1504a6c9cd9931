package draw

import (
	"encoding/xml"
	"strings"
)

func escape(s string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(s)); err != nil {
		panic(err) // a Builder takes everything
	}
	return b.String()
}

func fontSize(class string) float64 {
	switch {
	case strings.Contains(class, "h1"):
		return 19 // of bold text, which is wider
	case strings.Contains(class, "h2"):
		return 14
	case strings.Contains(class, "small"):
		return 11
	}
	return 12
}

// textWidth is about that of the widest of the fonts that may be used.
func textWidth(s string, size float64) float64 {
	sum := 0.0
	for _, r := range s {
		switch {
		case strings.ContainsRune("iljI.,:;'|!", r):
			sum += 0.32
		case strings.ContainsRune(" ftr()[]/-\"", r):
			sum += 0.40
		case strings.ContainsRune("mwMW%@✓✕⊘‖▸", r):
			sum += 0.95
		case r >= 'A' && r <= 'Z':
			sum += 0.70
		default:
			sum += 0.62
		}
	}
	return sum * size
}

func shorten(s string, room, size float64) string {
	if textWidth(s, size) <= room {
		return s
	}
	runes := []rune(s)
	for len(runes) > 0 && textWidth(string(runes)+"…", size) > room {
		runes = runes[:len(runes)-1]
	}
	return strings.TrimRight(string(runes), " ") + "…"
}
