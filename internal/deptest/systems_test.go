package deptest

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/outletd/outlet/internal/testutil"
)

// systems are where programs that use the libraries run.
var systems = []string{"linux", "darwin", "windows", "freebsd"}

// libraries are what other programs import, and what is below them.
var libraries = []string{"./plugins/...", "./capability/...", "./sdk/...", "./client/..."}

// The libraries build on every system, and vet, which also builds their tests,
// finds nothing there. Tests that use package testutil are for Linux, as the
// daemon is.
func TestLibrariesBuildEverywhere(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the libraries and their tests for four systems; run without -short")
	}
	testutil.Need(t, testutil.Go)
	ours, _ := packages(t)
	for _, system := range systems {
		for _, verb := range []string{"build", "vet"} {
			t.Run(system+"/"+verb, func(t *testing.T) {
				what := libraries
				if verb == "vet" && system != "linux" {
					what = portable(ours)
				}
				cmd := exec.CommandContext(t.Context(), "go", slices.Concat([]string{verb}, what)...)
				cmd.Dir = testutil.RepoRoot(t)
				cmd.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("GOOS=%s go %s %s: %v\n%s", system, verb, strings.Join(what, " "), err, out)
				}
			})
		}
	}
}

// portable are the packages of the libraries whose tests build everywhere.
func portable(ours []goPackage) []string {
	var found []string
	for _, p := range ours {
		tests := slices.Concat(p.TestImports, p.XTestImports)
		if slices.ContainsFunc(tests, func(s string) bool { return strings.HasPrefix(s, module+"/internal/testutil") }) {
			continue
		}
		for _, l := range libraries {
			root := module + strings.TrimSuffix(strings.TrimPrefix(l, "."), "/...")
			if p.ImportPath == root || strings.HasPrefix(p.ImportPath, root+"/") {
				found = append(found, p.ImportPath)
			}
		}
	}
	return found
}
