package durable

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

func TestReplaceFileLeavesNothingBesideIt(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	for _, content := range []string{"one", "another, longer", ""} {
		if err := ReplaceFile(name, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(name)
		if err != nil || string(b) != content {
			t.Errorf("read %q, %v, want %q", b, err, content)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestReplaceFileKeepsTheOldOneIfItFails(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "d")
	if err := os.MkdirAll(filepath.Join(name, "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := ReplaceFile(name, []byte("x"), 0o600); err == nil {
		t.Error("a directory was replaced")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("something is left: %v, %v", entries, err)
	}
}

func TestErrorsAreThoseOfTheCalls(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "a/b")
	for what, err := range map[string]error{
		"mkdir": Mkdir(missing, 0o755), "rename": Rename(missing, missing), "remove": Remove(missing), "sync": SyncDir(missing),
		"write": WriteFile(missing, nil, 0o600), "unlink": Unlinkat(unix.AT_FDCWD, missing, 0),
	} {
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := MkdirAll(missing, 0o755); err != nil {
		t.Error(err)
	}
	if err := RemoveAll(missing); err != nil {
		t.Error(err)
	}
}

func TestDatabaseKeepsWhatWasCommitted(t *testing.T) {
	name := filepath.Join(t.TempDir(), "db")
	db, err := Open(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("b"))
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if db, err = Open(name, nil); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		if tx.Bucket([]byte("b")) == nil {
			t.Error("the bucket is not there")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// What is shipped must not pay for failpoints.
func TestWithoutTheTagNothingIsAllocated(t *testing.T) {
	if Failpoints {
		t.Skip("this build has failpoints: go test without -tags failpoints")
	}
	n := testing.AllocsPerRun(100, func() {
		if err := at("op", "subject", func() error { return nil }); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for a call", n)
	}
}
