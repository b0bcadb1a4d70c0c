package mobycompat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/constant"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// paths are Moby's packages and those that stand in for them.
var paths = [][2]string{
	{"github.com/docker/docker/pkg/plugins", "github.com/outletd/outlet/plugins"},
	{"github.com/docker/docker/pkg/plugins/transport", "github.com/outletd/outlet/plugins/transport"},
	{"github.com/docker/docker/pkg/plugingetter", "github.com/outletd/outlet/plugins/plugingetter"},
	{"github.com/docker/go-connections/tlsconfig", "github.com/outletd/outlet/plugins/tlsconfig"},
}

// load reads the types of the packages from what the compiler exported.
func load(t *testing.T, pkgs ...string) map[string]*types.Package {
	t.Helper()
	args := append([]string{"list", "-export", "-deps", "-f", "{{if .Export}}{{.ImportPath}}={{.Export}}{{end}}"}, pkgs...)
	cmd := exec.Command("go", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	files := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		if name, file, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			files[name] = file
		}
	}
	imp := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) { return os.Open(files[path]) })
	loaded := make(map[string]*types.Package)
	for _, p := range pkgs {
		if loaded[p], err = imp.Import(p); err != nil {
			t.Fatal(err)
		}
	}
	return loaded
}

// text is a type as it reads after the import paths were changed, without the
// names of parameters.
func text(typ types.Type) string {
	if sig, ok := typ.(*types.Signature); ok {
		list := func(tuple *types.Tuple) string {
			var s []string
			for v := range tuple.Variables() {
				s = append(s, text(v.Type()))
			}
			return "(" + strings.Join(s, ", ") + ")"
		}
		variadic := ""
		if sig.Variadic() {
			variadic = "..."
		}
		return "func" + list(sig.Params()) + variadic + list(sig.Results())
	}
	s := types.TypeString(typ, func(p *types.Package) string {
		for _, pair := range paths {
			if p.Path() == pair[0] {
				return pair[1]
			}
		}
		return p.Path()
	})
	// Names of parameters in types of functions are the only words in front of
	// a type.
	s = regexp.MustCompile(`([(,] ?)\w+ (\*|\[|func|\w+[./])`).ReplaceAllString(s, "$1$2")
	return strings.ReplaceAll(s, "interface{}", "any")
}

// surface is everything a program can use of a package, each with its type.
func surface(p *types.Package) map[string]string {
	all := make(map[string]string)
	for _, name := range p.Scope().Names() {
		obj := p.Scope().Lookup(name)
		if !obj.Exported() {
			continue
		}
		switch o := obj.(type) {
		case *types.Const:
			all[name] = "const " + text(o.Type()) + " " + constant.ToInt(o.Val()).ExactString()
			if o.Val().Kind() == constant.String {
				all[name] = "const " + o.Val().ExactString()
			}
		case *types.TypeName:
			all[name] = "type"
			members(all, name, o.Type())
		default:
			all[name] = fmt.Sprintf("%T %s", o, text(o.Type()))
		}
	}
	return all
}

func members(all map[string]string, name string, typ types.Type) {
	switch u := typ.Underlying().(type) {
	case *types.Struct:
		all[name] = "type struct"
		for f := range u.Fields() {
			if f.Exported() {
				all[name+"."+f.Name()] = "field " + text(f.Type())
			}
		}
	case *types.Interface:
		// A type that satisfies the original has to satisfy ours, so there may
		// not be more methods, either.
		all[name] = fmt.Sprintf("type interface with %d methods", u.NumMethods())
		typ = u
	default:
		all[name] = "type " + text(u)
	}
	for _, set := range []struct {
		kind string
		typ  types.Type
	}{{"value", typ}, {"pointer", types.NewPointer(typ)}} {
		for m := range types.NewMethodSet(set.typ).Methods() {
			if m.Obj().Exported() {
				all[name+"."+m.Obj().Name()+" by "+set.kind] = "method " + text(m.Obj().Type())
			}
		}
	}
}

// Everything that a program can use of Moby's packages is there, with the same
// type. There may be more.
func TestExportedNamesAndSignatures(t *testing.T) {
	var names []string
	for _, p := range paths {
		if !strings.HasSuffix(p[0], "/transport") {
			names = append(names, p[0], p[1])
		}
	}
	loaded := load(t, names...)
	checked := 0
	for _, p := range paths {
		theirs, ours := loaded[p[0]], loaded[p[1]]
		if theirs == nil {
			continue
		}
		have := surface(ours)
		for name, typ := range surface(theirs) {
			checked++
			if got, ok := have[name]; !ok {
				if why, ok := left[p[0]+"."+name]; !ok {
					t.Errorf("%s.%s is missing: %s", p[1], name, typ)
				} else if why == "" {
					t.Errorf("%s.%s is left out without a reason", p[0], name)
				}
			} else if got != typ {
				t.Errorf("%s.%s\n is %s\nnot %s", p[1], name, got, typ)
			}
		}
	}
	t.Logf("compared %d names", checked)
	if checked < 60 {
		t.Errorf("only %d names were compared", checked)
	}
}

// left is what ours does not have.
var left = map[string]string{
	"github.com/docker/go-connections/tlsconfig.DefaultServerAcceptedCiphers": "a list that every importer can change; ServerDefault has it",
}

// originalFails are the tests of the suite that Moby's packages fail, with what
// happens. All others they pass.
var originalFails = map[string]string{
	"TestD01": "the second delivery has no body",
	"TestD02": "a mount is delivered twice",
	"TestD03": "a call with a timeout is repeated for 15 s",
	"TestD04": "a stream is cut off by the timeout of calls",
	"TestD05": "an error body is read without a bound",
	"TestD06": "all but two connections are closed after use",
	"TestD07": "the configuration directory of the user is not looked at",
	"TestD08": "a redirect is followed",
	"TestD09": "https plugins are not verified",
	"TestD10": "tcp with a TLSConfig is plain text",
	"TestD11": "the path of the address is dropped",
	"TestD12": "an address without a scheme is accepted",
	"TestD13": "a host is taken for the path of a socket",
	"TestD14": "a name leads out of the directory",
	"TestD15": "a file with the same stem hides the definition",
	"TestD16": "a plugin with two definitions is listed twice",
	"TestD17": "one unreadable directory fails the scan",
	"TestD18": "a path of 108 bytes is accepted",
	"TestD20": "a plugin that moved is called at its old place",
	"TestD21": "a dead socket costs every enumeration 15 s",
	"TestD23": "each user repeats the activation that failed",
	"TestD25": "a handler that registers a handler never returns",
	"TestD26": "a handler that looks its plugin up never returns",
	"TestD28": "a late handler runs the earlier ones again",
	"TestD31": "a wrapped error is not known as not found",
}

// build compiles the suite against the packages of which, 0 being Moby's.
func build(t *testing.T, which int) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "suite.test")
	args := []string{"test", "-c", "-o", bin}
	if which == 1 {
		args = append(args, "./suite")
	} else {
		source, err := os.ReadFile("suite/suite_test.go")
		if err != nil {
			t.Fatal(err)
		}
		s := strings.Replace(string(source), "package suite", "package original", 1)
		for _, p := range paths {
			s = strings.ReplaceAll(s, `"`+p[1]+`"`, `"`+p[0]+`"`)
		}
		changed := filepath.Join(t.TempDir(), "suite_test.go")
		if err := os.WriteFile(changed, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
		at, err := filepath.Abs("original/suite_test.go")
		if err != nil {
			t.Fatal(err)
		}
		overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{at: changed}})
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "overlay.json")
		if err := os.WriteFile(file, overlay, 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-overlay", file, "./original")
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return bin
}

// tests are the names of the suite's tests.
func tests(t *testing.T, bin string) []string {
	t.Helper()
	out, err := exec.Command(bin, "-test.list", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

// run runs one test in a process of its own: both packages have state that is
// global, and some of the defects never end.
func run(t *testing.T, bin, test string, limit time.Duration) (string, error) {
	t.Helper()
	// Who never ends leaves its files. The name is short, for there will be sockets.
	tmp, err := os.MkdirTemp("", "ot")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.RemoveAll(tmp); err != nil {
			t.Error(err)
		}
	}()
	cmd := exec.Command(bin, "-test.run", "^"+test+"$", "-test.timeout", limit.String(), "-test.v")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// A program written against Moby's packages behaves after its import paths were
// changed, and what §9 of docs/spec/v1-plugins.md calls defects is gone.
func TestSuiteOnOurs(t *testing.T) {
	bin := build(t, 1)
	for _, test := range tests(t, bin) {
		t.Run(test, func(t *testing.T) {
			t.Parallel()
			if out, err := run(t, bin, test, 2*time.Minute); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// The same suite shows what is wrong with the original; otherwise it would show
// nothing about ours.
func TestSuiteOnTheOriginal(t *testing.T) {
	bin := build(t, 0)
	all := tests(t, bin)
	for _, test := range all {
		t.Run(test, func(t *testing.T) {
			t.Parallel()
			why, fails := originalFails[test]
			limit := 2 * time.Minute
			if fails { // some by never ending
				limit = 25 * time.Second
			}
			out, err := run(t, bin, test, limit)
			switch {
			case fails && err == nil:
				t.Errorf("passes, although the table says that %s", why)
			case !fails && err != nil:
				t.Errorf("%v\n%s", err, out)
			case fails:
				t.Logf("fails as it should: %s", why)
			}
		})
	}
	for test := range originalFails {
		if !strings.Contains(" "+strings.Join(all, " ")+" ", " "+test+" ") {
			t.Errorf("the table has %s, the suite has not", test)
		}
	}
}
