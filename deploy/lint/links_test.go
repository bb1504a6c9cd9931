package lint

import (
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"regexp"
	"strings"
)

var linkRules = []rule{{
	name:  "links",
	check: checkLinks,
	bad: map[string]string{
		"api/README.md": strings.Join([]string{
			"[gone](gone.md) and [here](README.md) and ![picture](missing.png)",
			"[folder](../processor/) [up and out](../../elsewhere.md) [absolute](/README.md)",
			"[titled](other.md \"Title\") <https://example.com> [mail](mailto:a@example.com)",
			"[spaced](<with space.md>) [encoded](with%20space.md) `[code](nothing.md)`",
			"```", "[fenced](nothing.md)", "```",
			"[ref]: nowhere.md",
			"[ok]: README.md#part",
		}, "\n"),
		"api/with space.md": "",
	},
	want: []string{
		"api/README.md:1: gone.md", "api/README.md:1: missing.png", "api/README.md:2: ../../elsewhere.md", "api/README.md:2: /README.md",
		"api/README.md:3: other.md", "api/README.md:8: nowhere.md",
	},
}}

var (
	code      = regexp.MustCompile("`[^`]*`")
	inline    = regexp.MustCompile(`\]\(\s*(?:<([^>]*)>|([^\s)]+))[^)]*\)`)
	reference = regexp.MustCompile(`^\s*\[[^\]]+\]:\s*(?:<([^>]*)>|(\S+))`)
	scheme    = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*:`)
)

// checkLinks follows relative links to files and folders. Absolute paths are refused: on a web site of the repository they mean
// another place than on disk.
func checkLinks(t *tree) (problems []string) {
	for _, name := range t.match(func(name string) bool { return strings.HasSuffix(name, ".md") }) {
		fenced, number := false, 0
		for line := range strings.Lines(t.files[name]) {
			number++
			if strings.HasPrefix(strings.TrimSpace(line), "```") {
				fenced = !fenced
			}
			if fenced {
				continue
			}
			line = code.ReplaceAllString(line, "")
			found := inline.FindAllStringSubmatch(line, -1)
			if ref := reference.FindStringSubmatch(line); ref != nil {
				found = append(found, ref)
			}
			for _, m := range found {
				if target := m[1] + m[2]; !t.leads(name, target) {
					problems = append(problems, fmt.Sprintf("%s:%d: %s leads nowhere", name, number, target))
				}
			}
		}
	}
	return problems
}

func (t *tree) leads(from, target string) bool {
	if scheme.MatchString(target) || strings.HasPrefix(target, "#") {
		return true
	}
	target, _, _ = strings.Cut(target, "#")
	if plain, err := url.PathUnescape(target); err == nil {
		target = plain
	}
	if strings.HasPrefix(target, "/") {
		return false
	}
	_, err := fs.Stat(t.fsys, path.Join(path.Dir(from), target)) // fails on a path that leaves the repository
	return err == nil
}
