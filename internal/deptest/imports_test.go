package deptest

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/outletd/outlet/internal/testutil"
)

const module = "github.com/outletd/outlet"

// goPackage is what `go list -json` says of a package.
type goPackage struct {
	Dir, ImportPath string
	Standard        bool
	GoFiles         []string
	Imports         []string
	TestImports     []string
	XTestImports    []string
}

// short is the import path as the rules below write it: "." for the root of the
// module, "internal/x" for what is below, the path itself for other modules.
func short(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

// packages returns this module's packages, and which import paths are the
// standard library's.
func packages(t *testing.T) (ours []goPackage, std map[string]bool) {
	t.Helper()
	testutil.Need(t, testutil.Go)
	cmd := exec.Command("go", "list", "-deps", "-json=Dir,ImportPath,Standard,GoFiles,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = testutil.RepoRoot(t)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	std = make(map[string]bool)
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if p.Standard {
			std[p.ImportPath] = true
		}
		if p.ImportPath == module || strings.HasPrefix(p.ImportPath, module+"/") {
			ours = append(ours, p)
		}
	}
	return ours, std
}

// A rule says what the packages of a part of the tree may import directly.
// Since every package of the module is under some rule or free to import what
// is below it, that bounds what they import indirectly too.
type rule struct {
	// of are the packages the rule is about; a pattern "x/..." is x and all
	// below it.
	of []string
	// only, if not nil, is all they may import beside the standard library.
	only []string
	// deny is what they may not import.
	deny []string
	why  string
}

var rules = []rule{
	{
		of: []string{"."}, only: []string{"github.com/containerd/errdefs", "github.com/distribution/reference"},
		why: "the root is vocabulary and pure rules; everything else stands on it",
	},
	{
		of: []string{"."}, deny: []string{"net", "net/http", "os", "os/exec", "syscall"},
		why: "the root touches no disk, network or process",
	},
	{
		of: []string{"plugins/...", "capability/...", "sdk/..."}, only: []string{"plugins/...", "capability/...", "sdk/..."},
		why: "what plugin authors and users import stands alone: standard library only",
	},
	{
		of: []string{"plugins/..."}, deny: []string{"sdk/...", "capability/..."},
		why: "plugins is the transport; capabilities stand on it, not below it",
	},
	{
		of: []string{"client/..."}, only: []string{".", "github.com/containerd/errdefs"},
		why: "tools that drive the daemon must not link its machinery",
	},
	{
		of:   []string{"internal/api/...", "internal/gateway/..."},
		deny: []string{"manager/...", "internal/store/...", "internal/rootfs/...", "internal/runtime/...", "internal/volumes/...", "internal/daemon/...", "internal/cli/...", "client/..."},
		why:  "they declare the interfaces they call, so that they can be tested and replaced apart",
	},
	{
		of:   []string{"internal/volumes/..."},
		deny: []string{"manager/...", "internal/api/...", "internal/daemon/...", "internal/cli/..."},
		why:  "it reaches plugins through an interface it declares",
	},
	{
		of:   []string{"manager/..."},
		deny: []string{"net/http", "internal/api/...", "internal/gateway/...", "internal/volumes/...", "internal/daemon/...", "internal/cli/...", "client/..."},
		why:  "programs embed the manager; it speaks no HTTP and knows nothing of the daemon around it",
	},
	{
		of:   []string{"internal/cli/..."},
		deny: []string{"manager/...", "internal/api/...", "internal/store/...", "internal/rootfs/...", "internal/runtime/...", "internal/volumes/..."},
		why:  "commands talk to the daemon through the client",
	},
	{
		of: []string{"internal/store/..."}, deny: siblings("internal/store", "internal/rootfs"),
		why: "the store unpacks with rootfs, which knows no store; all other siblings are strangers",
	},
	{
		of: []string{"internal/rootfs/..."}, deny: siblings("internal/rootfs"),
		why: "siblings are strangers: who needs another declares the interface",
	},
	{
		of: []string{"internal/ocispec/..."}, deny: append(siblings("internal/ocispec", "internal/host"), "os", "os/exec", "net"),
		why: "the spec is a pure function of plugin and host facts",
	},
	{
		of: []string{"internal/host/..."}, deny: siblings("internal/host"),
		why: "a leaf knows only the vocabulary",
	},
	{
		of: []string{"internal/runtime/..."}, deny: siblings("internal/runtime", "internal/reap", "internal/host"),
		why: "a runtime knows nothing of plugins, records or restarts",
	},
	{
		of: []string{"internal/reap/..."}, deny: siblings("internal/reap"),
		why: "a leaf knows only the vocabulary",
	},
	{
		of: []string{"internal/probe/..."}, deny: siblings("internal/probe"),
		why: "a leaf knows only the vocabulary",
	},
	{
		of: []string{"internal/pluginlog/..."}, deny: siblings("internal/pluginlog"),
		why: "a leaf knows only the vocabulary",
	},
	{
		of: []string{"internal/scopedpath/..."}, deny: siblings("internal/scopedpath"),
		why: "a leaf knows only the vocabulary",
	},
	{
		of: []string{"internal/durable/..."}, only: []string{"internal/durable/...", "go.etcd.io/bbolt", "golang.org/x/sys/unix"},
		why: "what all that lasts goes through knows nothing of it",
	},
	{
		of: []string{"internal/dirlock/..."}, deny: siblings(),
		why: "a leaf knows only the vocabulary",
	},
	{
		of: []string{"internal/events/..."}, deny: siblings("internal/events"),
		why: "a leaf knows only the vocabulary",
	},
	{
		of: []string{"internal/credentials/...", "internal/policy/...", "internal/progress/..."}, deny: append(siblings(), "internal/registry/...", "internal/ocilayout/..."),
		why: "a leaf knows only the vocabulary",
	},
	{
		of: []string{"internal/ocilayout/..."}, deny: siblings(),
		why: "it reads documents with registry, and knows nothing of plugins that are kept or run",
	},
	{
		of: []string{"examples/..."}, only: []string{"sdk/...", "plugins/...", "capability/..."},
		why: "an example shows what an author needs, which is the sdk at most",
	},
}

// siblings are the packages that stand beside those given, and all above them.
func siblings(but ...string) []string {
	var deny []string
	for _, p := range []string{
		"internal/store", "internal/rootfs", "internal/ocispec", "internal/host", "internal/runtime", "internal/reap",
		"internal/probe", "internal/pluginlog", "internal/scopedpath", "internal/events", "internal/volumes",
		"internal/api", "internal/gateway", "internal/daemon", "internal/cli", "manager", "client", "cmd",
	} {
		if !slices.Contains(but, p) {
			deny = append(deny, p+"/...")
		}
	}
	return deny
}

func matches(patterns []string, path string) bool {
	for _, p := range patterns {
		base, tree := strings.CutSuffix(p, "/...")
		if path == base || tree && strings.HasPrefix(path, base+"/") {
			return true
		}
	}
	return false
}

func (r rule) allows(importer, imported string, std bool) bool {
	if !matches(r.of, importer) {
		return true
	}
	if matches(r.deny, imported) {
		return false
	}
	return r.only == nil || std || matches(r.only, imported)
}

func TestImportsGoDownOnly(t *testing.T) {
	ours, std := packages(t)
	for _, p := range ours {
		for _, imported := range p.Imports {
			for _, r := range rules {
				if !r.allows(short(p.ImportPath), short(imported), std[imported]) {
					t.Errorf("%s imports %s: %s", short(p.ImportPath), short(imported), r.why)
				}
			}
		}
	}
}

func TestOnlyTestsImportTestPackages(t *testing.T) {
	ours, _ := packages(t)
	forTests := []string{
		"internal/testutil/...", "testing", "testing/...",
		"github.com/google/go-cmp/...", "github.com/rogpeppe/go-internal/...",
	}
	suites := []string{"internal/testutil/...", "internal/runtime/runtimetest", "plugins/pluginstest", "sdk/sdktest"}
	for _, p := range ours {
		if matches(suites, short(p.ImportPath)) {
			continue
		}
		for _, imported := range p.Imports {
			if matches(forTests, short(imported)) {
				t.Errorf("%s imports %s, which is for tests", short(p.ImportPath), imported)
			}
		}
	}
}

func TestTestsUseOneDiffHelperAndScripts(t *testing.T) {
	ours, _ := packages(t)
	deny := []string{"github.com/stretchr/testify/...", "gotest.tools/...", "github.com/onsi/..."}
	for _, p := range ours {
		for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
			if matches(deny, imported) {
				t.Errorf("tests of %s import %s: the standard library and go-cmp are enough", short(p.ImportPath), imported)
			}
		}
	}
}

func TestTheRulesRefuse(t *testing.T) {
	for _, tt := range []struct {
		importer, imported string
		std, want          bool
	}{
		{"plugins", "net/http", true, true},
		{"plugins", "github.com/containerd/errdefs", false, false},
		{"plugins", "sdk", false, false},
		{"capability/volume", "plugins", false, true},
		{"client", ".", false, true},
		{"client", "internal/api", false, false},
		{".", "github.com/containerd/errdefs", false, true},
		{".", "os", true, false},
		{"internal/api", "manager", false, false},
		{"manager", "internal/store", false, true},
		{"manager", "net/http", true, false},
		{"internal/runtime/runc", "internal/reap", false, true},
		{"internal/runtime/runc", "internal/store", false, false},
		{"internal/rootfs", "internal/store", false, false},
	} {
		got := true
		for _, r := range rules {
			got = got && r.allows(tt.importer, tt.imported, tt.std)
		}
		if got != tt.want {
			t.Errorf("%s importing %s: allowed %v, want %v", tt.importer, tt.imported, got, tt.want)
		}
	}
}

// The map of docs/architecture.md has every package that a program links; what
// lies below one that it has counts as that.
func TestTheMapHasEveryPackage(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(testutil.RepoRoot(t), "docs/architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	ours, _ := packages(t)
	for _, p := range ours {
		name := short(p.ImportPath)
		if name == "." || strings.HasPrefix(name, "examples/") {
			continue
		}
		top := strings.SplitN(name, "/", 3)
		if top[0] == "internal" || top[0] == "cmd" || top[0] == "test" {
			name = strings.Join(top[:2], "/")
		} else {
			name = top[0]
		}
		if base, ok := strings.CutPrefix(name, "test/"); ok {
			name = "`" + base + "`"
		}
		if !strings.Contains(string(raw), name) {
			t.Errorf("docs/architecture.md does not say what %s is", name)
		}
	}
}
