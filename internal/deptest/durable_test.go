package deptest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// lasting are the packages that change what outlives the process. They do it
// through internal/durable alone, where the crash tests stand.
var lasting = []string{
	"internal/store/...", "internal/rootfs/...", "internal/pluginlog/...", "internal/volumes/...",
	"internal/runtime/...", "internal/daemon/...", "internal/dirlock/...", "manager/...",
}

// past are the calls that would go past internal/durable, by package.
var past = map[string][]string{
	"os": {
		"Chmod", "Chown", "Create", "CreateTemp", "Lchown", "Link", "Mkdir", "MkdirAll", "MkdirTemp", "Remove",
		"RemoveAll", "Rename", "Symlink", "Truncate", "WriteFile",
	},
	"unix": {
		"Fdatasync", "Fsync", "Linkat", "Mkdir", "Mkdirat", "Mknod", "Mknodat", "Mount", "MoveMount", "OpenTree",
		"Rename", "Renameat", "Renameat2", "Rmdir", "Symlinkat", "Sync", "Syncfs", "Unlink", "Unlinkat", "Unmount",
	},
	"bbolt": {"Open"},
	"mount": {"All", "MakePrivate", "MakeRShared", "MakeShared", "Mount", "RecursiveUnmount", "Unmount", "UnmountAll"},
	"root":  {"Chmod", "Create", "Mkdir", "MkdirAll", "Remove", "RemoveAll", "Rename", "Symlink", "WriteFile"},
}

// pastIn returns the calls in f that go past internal/durable.
func pastIn(f *ast.File) []string {
	var found []string
	wrapped := map[ast.Node]bool{} // what is called by a function given to durable
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		pkg, _ := sel.X.(*ast.Ident)
		switch {
		case pkg != nil && pkg.Name == "durable":
			for _, arg := range call.Args {
				ast.Inspect(arg, func(n ast.Node) bool { wrapped[n] = true; return true })
			}
		case wrapped[call]:
		case pkg != nil && slices.Contains(past[pkg.Name], sel.Sel.Name):
			found = append(found, pkg.Name+"."+sel.Sel.Name)
		case pkg != nil && pkg.Name == "os" && sel.Sel.Name == "OpenFile" && mentions(call, "O_CREATE"):
			found = append(found, "os.OpenFile with O_CREATE")
		case pkg != nil && pkg.Name == "unix" && strings.HasPrefix(sel.Sel.Name, "Open") && mentions(call, "O_CREAT"):
			found = append(found, "unix."+sel.Sel.Name+" with O_CREAT")
		case sel.Sel.Name == "Sync" && len(call.Args) == 0:
			found = append(found, "Sync of a file")
		case sel.Sel.Name == "Update" && strings.HasSuffix(fmt.Sprint(chain(sel.X)), "DB"):
			found = append(found, "Update of the database below durable.DB")
		}
		return true
	})
	return found
}

// chain is a selector as it is written.
func chain(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.Ident:
		return x.Name
	case *ast.SelectorExpr:
		return chain(x.X) + "." + x.Sel.Name
	}
	return ""
}

func mentions(n ast.Node, name string) bool {
	found := false
	ast.Inspect(n, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		found = found || ok && id.Name == name
		return true
	})
	return found
}

func TestWhatLastsIsChangedThroughDurable(t *testing.T) {
	ours, _ := packages(t)
	for _, p := range ours {
		if !matches(lasting, short(p.ImportPath)) || matches([]string{"internal/runtime/runtimetest/..."}, short(p.ImportPath)) {
			continue
		}
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, call := range pastIn(f) {
				t.Errorf("%s/%s: %s goes past internal/durable", short(p.ImportPath), name, call)
			}
		}
	}
}

func TestCallsPastDurableAreFound(t *testing.T) {
	const source = `package x
func f() {
	os.Rename(a, b)
	os.OpenFile(a, os.O_WRONLY|os.O_CREATE, 0)
	unix.Openat(fd, a, unix.O_CREAT, 0)
	unix.Unmount(a, 0)
	f.Sync()
	s.db.DB.Update(g)
	os.OpenFile(a, os.O_RDONLY, 0)
	durable.Rename(a, b)
	durable.Do(durable.Mount, a, func() error { return mount.All(m, a) })
	mount.All(m, a)
}`
	f, err := parser.ParseFile(token.NewFileSet(), "x.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"os.Rename", "os.OpenFile with O_CREATE", "unix.Openat with O_CREAT", "unix.Unmount", "Sync of a file",
		"Update of the database below durable.DB", "mount.All",
	}
	if got := pastIn(f); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}
