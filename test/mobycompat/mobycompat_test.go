package mobycompat

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outletd/outlet/internal/testutil"
)

// A program written against Moby's packages compiles and behaves after its
// import paths were changed; the module that shows it needs Moby, which this one
// does not. What fails on the original is printed, a row each.
func TestModuleThatNeedsMoby(t *testing.T) {
	if testing.Short() {
		t.Skip("builds Moby's packages and runs their defects, which take half a minute; run without -short")
	}
	// Root: the original reads Docker's own directories, whatever it is told.
	testutil.Need(t, testutil.MobyModule, testutil.Root)
	cmd := exec.CommandContext(t.Context(), "go", "test", "-json", "-count=1", "./...")
	cmd.Dir = filepath.Join(testutil.RepoRoot(t), "internal/mobycompat")
	// The module has a workspace of its own, with which -mod=mod cannot be: it
	// takes the sums of both modules as they are.
	cmd.Env = append(os.Environ(), "GOWORK=", "GOFLAGS=")
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.Output()
	fails, failed, passed := read(t, bytes.NewReader(out))
	for _, row := range fails {
		t.Log(row)
	}
	if err != nil || len(failed) > 0 {
		t.Errorf("go test in %s: %v\n%s", cmd.Dir, err, strings.Join(failed, ""))
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Logf("%s", exit.Stderr)
		}
	}
	// A module whose tests did not run would pass, too.
	if passed < 50 || len(fails) < 20 {
		t.Errorf("%d tests passed, %d rows fail on the original: there are more", passed, len(fails))
	}
}

// read returns the rows that fail on the original as they should, the output of
// tests that failed, and how many passed.
func read(t *testing.T, r io.Reader) (fails, failed []string, passed int) {
	t.Helper()
	outputs := make(map[string]string)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var e struct{ Action, Package, Test, Output string }
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%v in %q", err, lines.Text())
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "output":
			outputs[key] += e.Output
			if _, why, ok := strings.Cut(e.Output, "fails as it should: "); ok {
				_, name, _ := strings.Cut(e.Test, "/")
				fails = append(fails, name+" on the original: "+strings.TrimSpace(why))
			}
		case "fail":
			failed = append(failed, outputs[key])
		case "pass":
			if e.Test != "" {
				passed++
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(fails)
	return fails, failed, passed
}
