package testutil

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// recorder stands for a test: it notes how Need ended it.
type recorder struct {
	testing.TB
	skipped, failed string
}

var errEnded = errors.New("test ended")

func (*recorder) Helper()                     {}
func (r *recorder) Skip(args ...any)          { r.skipped = fmt.Sprint(args...); panic(errEnded) }
func (r *recorder) Fatalf(f string, a ...any) { r.failed = fmt.Sprintf(f, a...); panic(errEnded) }

func need(env string, t *testing.T, f Feature) (r *recorder) {
	t.Setenv(EnvNeed, env)
	r = &recorder{TB: t}
	defer func() {
		if v := recover(); v != nil && v != any(errEnded) {
			panic(v)
		}
	}()
	Need(r, f)
	return r
}

func TestNeed(t *testing.T) {
	t.Setenv("PATH", "/nonexistent")
	for _, tt := range []struct {
		name, env  string
		skip, fail bool
	}{
		{"skips what is missing", "", true, false},
		{"skips what is missing though another feature is demanded", "root,podman", true, false},
		{"fails where all is demanded", "all", false, true},
		{"fails where the feature is demanded among others", "root, strace", false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := need(tt.env, t, Strace)
			if got := r.skipped != ""; got != tt.skip {
				t.Errorf("skipped: %v (%q)", got, r.skipped)
			}
			if got := r.failed != ""; got != tt.fail {
				t.Errorf("failed: %v (%q)", got, r.failed)
			}
			if text := r.skipped + r.failed; !strings.HasPrefix(text, "needs strace: `make deps`") {
				t.Errorf("text does not name the feature and what enables it: %q", text)
			}
		})
	}
}

func TestEveryFeatureSaysWhatEnablesIt(t *testing.T) {
	for _, f := range Features() {
		if f.Enable() == "" {
			t.Errorf("%s says nothing", f)
		}
		t.Logf("%s: %v", f, f.Probe())
	}
}

func TestUnknownFeatureIsMissing(t *testing.T) {
	if Feature("sh").Probe() == nil {
		t.Error("a feature nobody declared is there")
	}
}

func TestTempDirIsShortEnoughForSockets(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	if dir := TempDir(t); len(dir) > 32 {
		t.Errorf("%s is %d bytes long", dir, len(dir))
	}
}

func TestMountsBelow(t *testing.T) {
	const info = `22 1 0:20 / / rw - ext4 /dev/a rw
23 22 0:21 / /tmp/ot1 rw,relatime shared:1 - tmpfs none rw
24 23 0:22 / /tmp/ot1/a\040b rw - tmpfs none rw
25 22 0:23 / /tmp/ot12 rw - tmpfs none rw
`
	got := mountsBelow(info, "/tmp/ot1")
	if len(got) != 2 || got[0] != "/tmp/ot1" || got[1] != "/tmp/ot1/a b" {
		t.Errorf("got %q", got)
	}
}

func TestStockTellsWhatIsNew(t *testing.T) {
	before := takeStock()
	f, err := os.Create(filepath.Join(t.TempDir(), "open"))
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	go func() { <-stop }()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	left := strings.Join(takeStock().beyond(before), "\n")
	for _, want := range []string{"descriptor: " + f.Name(), "child process: ", "TestStockTellsWhatIsNew.func"} {
		if !strings.Contains(left, want) {
			t.Errorf("not told: %s\n%s", want, left)
		}
	}
	close(stop)
	f.Close()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	Eventually(t, 20*time.Second, func() error {
		if left := takeStock().beyond(before); len(left) > 0 {
			return fmt.Errorf("still there: %q", left)
		}
		return nil
	})
}

func TestBuildMakesAStaticProgramOnce(t *testing.T) {
	path := Build(t, "./internal/testutil/testreport")
	if static, err := IsStatic(path); err != nil || !static {
		t.Errorf("static: %v, %v", static, err)
	}
	if again := Build(t, "./internal/testutil/testreport"); again != path {
		t.Errorf("built twice: %s, %s", path, again)
	}
}
