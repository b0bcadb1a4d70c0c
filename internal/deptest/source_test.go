package deptest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// negation is how a package comment says what the package is not, or where it
// ends.
var negation = regexp.MustCompile(`(?i)\b(not|no|never|nothing|none|neither|nobody|only|without)\b`)

func TestEveryPackageHasOneComment(t *testing.T) {
	ours, _ := packages(t)
	for _, p := range ours {
		var found []string
		var text string
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil && f.Doc.Text() != "" {
				found = append(found, name)
				text = f.Doc.Text()
			}
		}
		switch {
		case len(p.GoFiles) == 0: // only tests
		case len(found) == 0:
			t.Errorf("%s has no package comment", short(p.ImportPath))
		case len(found) > 1:
			t.Errorf("%s has package comments in %s", short(p.ImportPath), strings.Join(found, ", "))
		case !negation.MatchString(text) && p.ImportPath != module+"/cmd/outlet":
			t.Errorf("the comment of %s (%s) does not say what the package is not", short(p.ImportPath), found[0])
		}
	}
}

// banned are calls that have a better way.
var banned = map[string]string{
	"time.Sleep":      "wait for the event, or select on a timer and ctx.Done",
	"context.TODO":    "take a ctx",
	"os.IsNotExist":   "use errors.Is",
	"os.IsExist":      "use errors.Is",
	"os.IsPermission": "use errors.Is",
	"slog.Default":    "take a logger",
}

func TestNoBannedCalls(t *testing.T) {
	ours, _ := packages(t)
	for _, p := range ours {
		for _, name := range p.GoFiles {
			path := filepath.Join(p.Dir, name)
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, what := range bannedIn(f) {
				t.Errorf("%s/%s: %s", short(p.ImportPath), name, what)
			}
		}
	}
}

func bannedIn(f *ast.File) []string {
	var found []string
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Recv == nil && n.Name.Name == "init" {
				found = append(found, "func init: nothing happens by importing")
			}
		case *ast.SelectorExpr:
			if pkg, ok := n.X.(*ast.Ident); ok {
				call := pkg.Name + "." + n.Sel.Name
				if why, ok := banned[call]; ok {
					found = append(found, fmt.Sprintf("%s: %s", call, why))
				}
			}
		}
		return true
	})
	return found
}

func TestBannedCallsAreFound(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nfunc init() { time.Sleep(1) }\n", 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := bannedIn(f); len(got) != 2 {
		t.Errorf("found %q", got)
	}
}
