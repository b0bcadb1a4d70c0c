package deptest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/outletd/outlet/internal/testutil"
)

// files calls f with the path, relative to the root of the repository, and the
// content of every text file that belongs to it.
func files(t *testing.T, f func(path, content string)) {
	t.Helper()
	root := testutil.RepoRoot(t)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			switch rel {
			case ".git", ".cache", "bin", "dist":
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil || info.Size() > 4<<20 {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !strings.ContainsRune(string(content), 0) {
			f(rel, string(content))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// local are paths that exist on one machine only. They are put together here so
// that this file does not hold them.
var local = regexp.MustCompile(`(^|[^\w./-])/(wo` + `rk/(ma` + `in|sha` + `red|\.lib)|fa` + `rm/)|/tmp/out` + `let/`)

func TestNoFileNamesOneMachine(t *testing.T) {
	files(t, func(path, content string) {
		if path == "THIRD_PARTY_LICENSES" {
			return
		}
		for i, line := range strings.Split(content, "\n") {
			if local.MatchString(line) {
				t.Errorf("%s:%d names a path of one machine: %s", path, i+1, strings.TrimSpace(line))
			}
		}
	})
}

func TestNothingIsReplacedOrFloating(t *testing.T) {
	floating := regexp.MustCompile(`@(lat` + `est|mas` + `ter|ma` + `in)\b`)
	files(t, func(path, content string) {
		base := filepath.Base(path)
		if base == "go.mod" && regexp.MustCompile(`(?m)^\s*replace\b`).MatchString(content) {
			t.Errorf("%s replaces a module: who requires ours would not get the replacement", path)
		}
		if base == "Makefile" || strings.HasSuffix(base, ".sh") || strings.HasPrefix(path, ".ci/") || strings.HasSuffix(base, ".go") {
			for i, line := range strings.Split(content, "\n") {
				if floating.MatchString(line) {
					t.Errorf("%s:%d takes whatever is newest: pin it", path, i+1)
				}
			}
		}
	})
}

func TestNothingIsLeftToDo(t *testing.T) {
	open := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	files(t, func(path, content string) {
		if !strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, ".sh") && filepath.Base(path) != "Makefile" {
			return
		}
		for i, line := range strings.Split(content, "\n") {
			// The name of the function that the linter forbids is no open end.
			if open.MatchString(strings.ReplaceAll(line, "context.TO"+"DO", "")) {
				t.Errorf("%s:%d: %s", path, i+1, strings.TrimSpace(line))
			}
		}
	})
}

// cited is how code and documents name a place in the contract.
var cited = regexp.MustCompile(`docs/spec/([a-z0-9-]+\.md)(?: §(\d+(?:\.\d+)*))?`)

func TestCitationsLeadSomewhere(t *testing.T) {
	root := testutil.RepoRoot(t)
	headings := make(map[string]string)
	files(t, func(path, content string) {
		for _, m := range cited.FindAllStringSubmatch(content, -1) {
			name, section := m[1], m[2]
			text, ok := headings[name]
			if !ok {
				b, err := os.ReadFile(filepath.Join(root, "docs/spec", name))
				if err != nil {
					t.Errorf("%s cites %s: %v", path, m[0], err)
				}
				text = string(b)
				headings[name] = text
			}
			if section != "" && text != "" && !hasSection(text, section) {
				t.Errorf("%s cites %s: no such section", path, m[0])
			}
		}
	})
}

// hasSection says whether a document has a heading of the number, or a numbered
// row directly below the heading of the number without its last part.
func hasSection(text, section string) bool {
	heading := func(s string) *regexp.Regexp {
		return regexp.MustCompile(`(?m)^#+ ` + regexp.QuoteMeta(s) + `\.? `)
	}
	if heading(section).MatchString(text) {
		return true
	}
	parent, row, ok := cutLast(section, ".")
	if !ok {
		return false
	}
	at := heading(parent).FindStringIndex(text)
	if at == nil {
		return false
	}
	body, _, _ := strings.Cut(text[at[1]:], "\n#")
	return regexp.MustCompile(`(?m)^(\| *)?` + row + `[. |]`).MatchString(body)
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

var link = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)\s]*)?\)`)

func TestLinksInDocumentsExist(t *testing.T) {
	root := testutil.RepoRoot(t)
	files(t, func(path, content string) {
		if !strings.HasSuffix(path, ".md") {
			return
		}
		for _, m := range link.FindAllStringSubmatch(content, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", path, m[1])
			}
		}
	})
}

func TestLicencesOfAllModulesComeAlong(t *testing.T) {
	root := testutil.RepoRoot(t)
	licences, err := os.ReadFile(filepath.Join(root, "THIRD_PARTY_LICENSES"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range linkedModules(t, root) {
		if !strings.Contains(string(licences), "\n  "+m+" (") {
			t.Errorf("the licence of %s is not in THIRD_PARTY_LICENSES: run `make licenses`", m)
		}
	}
}
