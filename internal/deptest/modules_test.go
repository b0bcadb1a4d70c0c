package deptest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// linkedModules returns "path version" of every module that is linked into our
// two programs.
func linkedModules(t *testing.T, root string) []string {
	t.Helper()
	var found []string
	for _, p := range []struct{ dir, pkg, cgo string }{
		{".", "./cmd/outlet", "0"},
		{"tools/runc", "github.com/opencontainers/runc", "1"},
	} {
		cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{end}}{{end}}", p.pkg)
		cmd.Dir = filepath.Join(root, p.dir)
		cmd.Env = append(os.Environ(), "CGO_ENABLED="+p.cgo)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list %s: %v", p.pkg, err)
		}
		for line := range strings.Lines(string(out)) {
			if line = strings.TrimSpace(line); line != "" {
				found = append(found, line)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// There is one runc in a release: the one that the main module's go-runc drives
// is built from a module of its own, and nothing else may pull another in.
func TestTheMainModuleLinksNoRuntime(t *testing.T) {
	ours, _ := packages(t)
	for _, p := range ours {
		for _, imported := range p.Imports {
			if imported == "github.com/opencontainers/runc" || strings.HasPrefix(imported, "github.com/opencontainers/runc/") {
				t.Errorf("%s imports %s", short(p.ImportPath), imported)
			}
		}
	}
}
