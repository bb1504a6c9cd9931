package errcode

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"testing"
)

const importPath = "github.com/tidemark-dev/tidemark/schemas/errcode"

var (
	codePattern = regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)*(\.[a-z0-9]+(_[a-z0-9]+)*)*$`)
	sentence    = regexp.MustCompile(`^[A-Z/][^\n]*\.$`)
	verb        = regexp.MustCompile(`%[-+# 0-9.]*[a-zA-Z]\b`) // a message is no format: details have their own place
)

// problems says what is wrong with an entry of the registry.
func problems(i Info) (out []string) {
	if !codePattern.MatchString(string(i.Code)) {
		out = append(out, "code is not dotted lower case")
	}
	if !sentence.MatchString(i.Message) || verb.MatchString(i.Message) || len(i.Message) > 120 {
		out = append(out, "message is not one sentence")
	}
	if !sentence.MatchString(i.Hint) || verb.MatchString(i.Hint) || len(i.Hint) > 200 {
		out = append(out, "hint does not say in a sentence what to do")
	}
	if i.Status != 0 && (i.Status < 400 || i.Status > 599 || http.StatusText(i.Status) == "") {
		out = append(out, fmt.Sprintf("status %d is no HTTP error", i.Status))
	}
	internal := strings.HasPrefix(string(i.Code), "raw.") || strings.HasPrefix(string(i.Code), "run.") && i.Code != RunTimeout ||
		strings.HasPrefix(string(i.Code), "held.") && i.Code != UnknownHeldRun
	if internal && i.Status != 0 {
		out = append(out, fmt.Sprintf("status %d: it never leaves over HTTP", i.Status))
	}
	if strings.HasPrefix(string(i.Code), "cursor.") && i.Status != http.StatusBadRequest && i.Status != http.StatusGone {
		out = append(out, fmt.Sprintf("status %d: a bad cursor is the client's affair", i.Status))
	}
	return out
}

func TestRegistry_EveryCodeHasMessageHintAndStatus(t *testing.T) {
	all := All()
	if len(all) < 40 {
		t.Fatalf("only %d codes", len(all))
	}
	if !sort.SliceIsSorted(all, func(a, b int) bool { return all[a].Code < all[b].Code }) {
		t.Error("All is not sorted")
	}
	for _, i := range all {
		if got, ok := Lookup(i.Code); !ok || got != i {
			t.Errorf("%s: Lookup says %+v, %v", i.Code, got, ok)
		}
		for _, p := range problems(i) {
			t.Errorf("%s: %s", i.Code, p)
		}
	}
	if _, ok := Lookup("no.such_code"); ok {
		t.Error("a code that nobody registered is found")
	}
}

func TestRegistry_TheCheckCanFail(t *testing.T) {
	for want, i := range map[string]Info{
		"code is not dotted":            {"Raw.X", 0, "A message.", "A hint."},
		"message is not one sentence":   {"a.b", 0, "a message", "A hint."},
		"hint does not say":             {"a.b", 0, "A message.", ""},
		"status 200 is no HTTP error":   {"a.b", 200, "A message.", "A hint."},
		"status 599 is no HTTP error":   {"a.b", 599, "A message.", "A hint."},
		"it never leaves over HTTP":     {"raw.b", 400, "A message.", "A hint."},
		"a bad cursor is the client's":  {"cursor.b", 500, "A message.", "A hint."},
		"message is not one sentence, ": {"a.b", 0, "A message with %s.", "A hint."},
	} {
		if got := strings.Join(problems(i), ", ") + ", "; !strings.Contains(got, want) {
			t.Errorf("%+v: %q, want %q", i, got, want)
		}
	}
}

func TestRegister_RefusesACodeTwice(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	register(RawInvalidID, 0, "A message.", "A hint.")
}

func TestError(t *testing.T) {
	cause := errors.New("disk /var is broken")
	err := New(CursorExpired, "generation %d", 2)
	err.Err = cause
	if got, want := err.Error(), "cursor.expired: The cursor is from a generation of the log that is gone. generation 2: disk /var is broken"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if !errors.Is(err, cause) || err.Hint() != "Start again without a cursor." || err.Detail != "generation 2" {
		t.Errorf("%+v", err)
	}
	if got, want := New(ServerError, "").Error(), "server_error: Something went wrong on our side."; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	var target *Error
	if wrapped := fmt.Errorf("reading: %w", err); !errors.As(wrapped, &target) || target.Code != CursorExpired {
		t.Errorf("%v", wrapped)
	}
}

// constants are the exported codes of this package, by name of the constant.
func constants(t *testing.T) map[string]Code {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "errcode.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]Code{}
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			text, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			out[v.Names[0].Name] = Code(text)
		}
	}
	return out
}

func TestRegistry_HoldsExactlyTheConstants(t *testing.T) {
	names := map[Code]string{}
	for name, code := range constants(t) {
		if other, ok := names[code]; ok {
			t.Errorf("%s and %s are both %q", name, other, code)
		}
		names[code] = name
		if _, ok := Lookup(code); !ok {
			t.Errorf("%s is not registered", name)
		}
	}
	for _, i := range All() {
		if names[i.Code] == "" {
			t.Errorf("%q has no constant", i.Code)
		}
	}
}

// uses finds the codes that a file names: constants of this package, and literals where a code is due.
func uses(file *ast.File) (names []string, literals []Code) {
	local := ""
	for _, i := range file.Imports {
		if path, err := strconv.Unquote(i.Path.Value); err == nil && path == importPath {
			local = "errcode"
			if i.Name != nil {
				local = i.Name.Name
			}
		}
	}
	if local == "" {
		return nil, nil
	}
	ours := func(e ast.Expr) (string, bool) {
		s, ok := e.(*ast.SelectorExpr)
		if !ok {
			return "", false
		}
		x, ok := s.X.(*ast.Ident)
		return s.Sel.Name, ok && x.Name == local && x.Obj == nil
	}
	literal := func(e ast.Expr) {
		if b, ok := e.(*ast.BasicLit); ok && b.Kind == token.STRING {
			if text, err := strconv.Unquote(b.Value); err == nil {
				literals = append(literals, Code(text))
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if name, ok := ours(n); ok {
				names = append(names, name)
			}
		case *ast.CallExpr: // errcode.Code("x"), errcode.New("x", ...)
			if name, ok := ours(n.Fun); ok && (name == "Code" || name == "New" || name == "Lookup") && len(n.Args) > 0 {
				literal(n.Args[0])
			}
		case *ast.KeyValueExpr: // &errcode.Error{Code: "x"}, &event.RawError{Code: "x"}
			if k, ok := n.Key.(*ast.Ident); ok && k.Name == "Code" {
				literal(n.Value)
			}
		}
		return true
	})
	return names, literals
}

// exported are the names of this package that are no codes.
var exported = map[string]bool{"Code": true, "New": true, "Lookup": true, "All": true, "Error": true, "Info": true}

func unknown(names []string, literals []Code, codes map[string]Code) (out []string) {
	for _, name := range names {
		if _, ok := codes[name]; !ok && !exported[name] {
			out = append(out, name)
		}
	}
	for _, code := range literals {
		if _, ok := Lookup(code); !ok {
			out = append(out, strconv.Quote(string(code)))
		}
	}
	return out
}

// Builds with tags that this machine does not set are read, too: the compiler would not see them.
func TestModule_UsesOnlyRegisteredCodes(t *testing.T) {
	root := "../.."
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	codes := constants(t)
	files, used := 0, 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != root && (strings.HasPrefix(name, ".") || name == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			return err
		}
		files++
		names, literals := uses(file)
		used += len(names) + len(literals)
		for _, u := range unknown(names, literals, codes) {
			t.Errorf("%s uses %s, which is not registered", path, u)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 20 || used < 20 {
		t.Errorf("only %d uses in %d files: the walk sees too little", used, files)
	}
}

func TestModule_TheCheckCanFail(t *testing.T) {
	src := `package x
import codes "` + importPath + `"
var (
	a = codes.RawInvalidID
	b = codes.NoSuchCode
	c = codes.New("no.such_literal", "x")
	d = codes.Code("no.such_conversion")
	e = &codes.Error{Code: "no.such_member"}
	f = codes.New("cursor.expired", "x")
)`
	file, err := parser.ParseFile(token.NewFileSet(), "x.go", src, 0)
	if err != nil {
		t.Fatal(err)
	}
	names, literals := uses(file)
	got := unknown(names, literals, constants(t))
	if want := `[NoSuchCode "no.such_literal" "no.such_conversion" "no.such_member"]`; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
	other, err := parser.ParseFile(token.NewFileSet(), "y.go", `package y; import "example.com/errcode"; var a = errcode.NoSuchCode`, 0)
	if err != nil {
		t.Fatal(err)
	}
	if names, literals := uses(other); names != nil || literals != nil {
		t.Errorf("another package of the same name: %v, %v", names, literals)
	}
}
