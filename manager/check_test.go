package manager

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/runtime"
)

// problems are the kinds that a check finds, by subject.
func (f *fixture) problems(repair bool) map[string]string {
	f.t.Helper()
	report, err := f.Check(f.t.Context(), repair)
	if err != nil {
		f.t.Fatal(err)
	}
	found := make(map[string]string)
	for _, p := range report.Problems {
		if p.Repaired != repair {
			f.t.Errorf("%s %s: repaired is %v", p.Kind, p.Subject, p.Repaired)
		}
		found[p.Subject] = p.Kind
	}
	return found
}

func TestCheckFindsAndRepairsWhatIsLeftOver(t *testing.T) {
	f := newFixture(t)
	off := f.create("off")
	f.create("on")
	f.enable("on")
	if found := f.problems(false); len(found) > 0 {
		t.Fatalf("at the beginning: %v", found)
	}
	strange := outlet.Plugin{ID: "00000000000000000000000000000000000000000000000000000000000000aa"}
	want := make(map[string]string)
	for _, p := range []outlet.Plugin{off, strange} {
		for _, dir := range []string{f.bundlesDir(), f.socketsDir()} {
			left := filepath.Join(dir, shortID(p.ID))
			if err := os.MkdirAll(filepath.Join(left, "something"), 0o700); err != nil {
				t.Fatal(err)
			}
			want[left] = strayDirectory
		}
		b := f.pathsOf(p.ID)
		out, err := os.CreateTemp(t.TempDir(), "out")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { out.Close() })
		if _, err := f.rt.Start(t.Context(), runtime.Bundle{ID: p.ID, Dir: b.bundle, Owned: []string{b.sockets}, Stdout: out, Stderr: out}); err != nil {
			t.Fatal(err)
		}
		want[p.ID] = strayContainer
	}
	lost := filepath.Join(f.cfg.Root, "plugins", strange.ID)
	if err := os.Mkdir(lost, 0o700); err != nil {
		t.Fatal(err)
	}
	want[lost] = "orphan directory"
	for _, repair := range []bool{false, true} {
		found := f.problems(repair)
		for subject, kind := range want {
			if found[subject] != kind {
				t.Errorf("repair %v: %s is %q, want %q", repair, subject, found[subject], kind)
			}
		}
		if len(found) != len(want) {
			t.Errorf("repair %v: found %v, want %v", repair, found, want)
		}
	}
	if found := f.problems(false); len(found) > 0 {
		t.Errorf("after the repair: %v", found)
	}
	f.state("on", outlet.StateRunning)
	f.enable("off")
}
