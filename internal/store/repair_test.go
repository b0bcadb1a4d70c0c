package store

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/leases"
	"go.etcd.io/bbolt"

	"github.com/outletd/outlet/internal/testutil"
)

func TestRepairMendsWhatLosesNothingAndLeavesTheRest(t *testing.T) {
	s := openStore(t, testutil.TempDir(t), Native)
	kept := add(t, s, "kept:latest", small(t, "kept"))
	damaged := add(t, s, "damaged:latest", small(t, "damaged"))
	if err := create(t, s, small(t, "litter")).Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	stray := newID(t)
	for _, id := range []string{kept.ID, stray} {
		if err := os.MkdirAll(filepath.Join(s.Root(), "plugins", id, "log"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.leases.Create(s.Context(t.Context()), leases.WithID(pluginLease+stray)); err != nil {
		t.Fatal(err)
	}
	err := s.DB().Update(func(tx *bbolt.Tx) error {
		if err := recordBucket(tx).Put([]byte(damaged.ID), []byte("{")); err != nil {
			return err
		}
		if err := nameBucket(tx).Delete([]byte("kept:latest")); err != nil {
			return err
		}
		return nameBucket(tx).Put([]byte("nobody:latest"), []byte(stray))
	})
	if err != nil {
		t.Fatal(err)
	}
	report, err := s.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, p := range report.Problems {
		kinds = append(kinds, string(p.Kind))
	}
	slices.Sort(kinds)
	want := "damaged index,damaged record,orphan blob,orphan directory,orphan lease,orphan snapshot"
	if got := strings.Join(slices.Compact(kinds), ","); got != want {
		t.Errorf("the check finds %s, want %s", got, want)
	}
	if err := s.Repair(t.Context(), report); err != nil {
		t.Fatal(err)
	}
	left, err := s.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(left.Problems) != 1 || left.Problems[0].Kind != DamagedRecord || left.Problems[0].Subject != damaged.ID {
		t.Errorf("left: %v", left.Problems)
	}
	if _, err := os.Stat(s.PluginDir(kept.ID)); err != nil {
		t.Errorf("the directory of a plugin that is there: %v", err)
	}
	if got := readRootfs(t, s, kept, "plugin"); got != "kept" {
		t.Errorf("the plugin that is there has %q", got)
	}
	_, broken, err := s.Records(t.Context())
	if err != nil || len(broken) != 1 || broken[0].Name != "damaged:latest" {
		t.Errorf("the damaged record's name is not known any more: %v, %v", broken, err)
	}
}

func TestAStartRemovesDirectoriesOfPluginsThatAreGone(t *testing.T) {
	root := testutil.TempDir(t)
	s := openStore(t, root, Native)
	stray := s.PluginDir(newID(t))
	if err := os.MkdirAll(filepath.Join(stray, "propagated-mount", "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, root, Native)
	wantEmpty(t, s)
}

func TestAStartRemovesIngestsThatHadNotBegun(t *testing.T) {
	root := testutil.TempDir(t)
	s := openStore(t, root, Native)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string][]string{
		"nothing": nil, "ref": {"ref"}, "times": {"ref", "startedat", "updatedat"}, "torn": {"ref", "startedat", "data"},
	} {
		dir := filepath.Join(root, "content", "ingest", name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if err := os.WriteFile(filepath.Join(dir, f), []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	s = openStore(t, root, Native)
	wantEmpty(t, s)
}
