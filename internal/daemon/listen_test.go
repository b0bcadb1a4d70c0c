package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/outletd/outlet/internal/testutil"
)

func TestListeningLeavesTheUmaskOfTheProcessAlone(t *testing.T) {
	dir := testutil.TempDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { // a plugin that is being started meanwhile
		defer close(done)
		for ctx.Err() == nil {
			if umask(t) == 0o777 {
				t.Error("files that are made meanwhile have no permissions")
				return
			}
		}
	}()
	for range 200 {
		path := filepath.Join(dir, "s")
		l, err := listen(t.Context(), hostAddr{"unix", path}, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm() != 0o660 {
			t.Errorf("mode %v, %v", st.Mode(), err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	<-done
}

// umask reads the process's umask without changing it.
func umask(t *testing.T) int {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Error(err)
		return 0
	}
	var mask int
	for line := range strings.Lines(string(raw)) {
		if v, ok := strings.CutPrefix(line, "Umask:"); ok {
			if _, err := fmt.Sscanf(v, "%o", &mask); err != nil {
				t.Error(err)
			}
		}
	}
	return mask
}

func TestASocketHasNoModeUntilItIsGiven(t *testing.T) {
	path := filepath.Join(testutil.TempDir(t), "s")
	l, err := bindClosed(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil || st.Mode&0o777 != 0 {
		t.Errorf("mode %o, %v", st.Mode&0o777, err)
	}
}
