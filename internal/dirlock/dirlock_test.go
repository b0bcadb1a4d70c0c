package dirlock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet/internal/testutil"
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

// holderEnv names the directory that the test binary is to lock.
const holderEnv = "OUTLET_DIRLOCK_HOLDER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holderEnv); dir != "" {
		fmt.Println(holdAndLeave(dir))
		return
	}
	os.Exit(testutil.Main(m))
}

// holdAndLeave takes the lock and leaves it to a child, as one that is killed
// between fork and exec does. The child has it until its input ends.
func holdAndLeave(dir string) error {
	f, err := Lock(dir, "place")
	if err != nil {
		return err
	}
	cmd := exec.Command("cat")
	cmd.Stdin, cmd.ExtraFiles = os.Stdin, []*os.File{f}
	return cmd.Start()
}

func TestALockThatAKilledHolderLeftToAChildIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), holderEnv+"="+dir)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close() // again, if the test fails
	cmd.Stdin = r
	if out, err := cmd.Output(); err != nil || string(out) != "<nil>\n" {
		t.Fatalf("%s, %v", out, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	locked := make(chan error, 1)
	go func() {
		f, err := Lock(dir, "place")
		if err == nil {
			err = f.Close()
		}
		locked <- err
	}()
	select {
	case err := <-locked:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-locked; err != nil {
		t.Error(err)
	}
}
