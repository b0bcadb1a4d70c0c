package dirlock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestASecondLockIsRefusedUntilTheFirstEnds(t *testing.T) {
	dir := t.TempDir()
	// What an earlier, longer-named holder left is replaced.
	if err := os.WriteFile(filepath.Join(dir, "lock"), []byte(strings.Repeat("9", 20)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	first, err := Lock(dir, "place")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Lock(dir, "place")
	want := fmt.Sprintf("place %s is in use by another daemon (pid %d)", dir, os.Getpid())
	if !errdefs.IsUnavailable(err) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Lock(dir, "place")
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestAHolderThatHasNotSaidItsPidIsNotNamed(t *testing.T) {
	dir := t.TempDir()
	first, err := Lock(dir, "place")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if err := first.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir, "place"); !errdefs.IsUnavailable(err) || !strings.HasSuffix(err.Error(), "by another daemon") {
		t.Errorf("error is %v", err)
	}
}

func TestADirectoryThatIsMissingIsNotMade(t *testing.T) {
	if _, err := Lock(filepath.Join(t.TempDir(), "missing"), "place"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
}
