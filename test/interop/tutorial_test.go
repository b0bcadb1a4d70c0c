package interop

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

// blocks are the fenced blocks of a document, by language and in order.
func blocks(t *testing.T, document, language string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(testutil.RepoRoot(t), "docs", document))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(string(b), -1) {
		found = append(found, m[1])
	}
	return found
}

// program puts files into a module of its own and returns what runs go there.
func program(t *testing.T, files map[string]string) func(args ...string) {
	t.Helper()
	testutil.Need(t, testutil.Go)
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	goCmd := func(args ...string) {
		t.Helper()
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	goCmd("mod", "init", "hello")
	goCmd("work", "init", ".", testutil.RepoRoot(t))
	return goCmd
}

func TestTutorialsWorkAsWritten(t *testing.T) {
	code, config := blocks(t, "tutorial-plugin.md", "go"), blocks(t, "tutorial-plugin.md", "json")
	if len(code) != 2 || len(config) != 1 {
		t.Fatalf("%d programs and %d configurations", len(code), len(config))
	}
	plugin := filepath.Join(t.TempDir(), "hello")
	goPlugin := program(t, map[string]string{"main.go": code[0], "main_test.go": code[1]})
	goPlugin("vet", ".")
	goPlugin("test", ".")
	goPlugin("build", "-o", plugin, ".")

	use := filepath.Join(t.TempDir(), "use")
	goUse := program(t, map[string]string{"main.go": blocks(t, "tutorial-use.md", "go")[0]})
	goUse("vet", ".")
	goUse("build", "-o", use, ".")
	daemontest.Run(t, nil, use, "no-such-plugin").Refused("no plugin no-such-plugin on this machine")

	t.Run("as a v1 plugin", func(t *testing.T) {
		testutil.Need(t, testutil.Root)
		if _, err := os.Stat("/var/lib/hello"); err == nil {
			t.Fatal("/var/lib/hello is there: it is what the tutorial's plugin uses")
		}
		t.Cleanup(func() {
			if err := os.RemoveAll("/var/lib/hello"); err != nil {
				t.Error(err)
			}
		})
		cmd := exec.Command(plugin)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		testutil.Eventually(t, time.Minute, func() error {
			c, err := net.Dial("unix", "/run/docker/plugins/hello.sock")
			if err != nil {
				return err
			}
			return c.Close()
		})
		if got := daemontest.Run(t, nil, use, "hello").OK(); got != "the volume is at /var/lib/hello/example" {
			t.Errorf("the other tutorial's program prints %q", got)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	t.Run("as a managed plugin", func(t *testing.T) {
		d := daemontest.Start(t)
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "rootfs/var/lib/hello"), 0o755); err != nil {
			t.Fatal(err)
		}
		daemontest.Run(t, nil, "cp", plugin, filepath.Join(dir, "rootfs/hello")).OK()
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config[0]), 0o600); err != nil {
			t.Fatal(err)
		}
		d.Outlet("create", "hello", dir).OK()
		d.Outlet("enable", "hello").OK()
		d.Outlet("volume", "create", "-d", "hello", "notes").OK()
		if path := d.Outlet("volume", "mount", "notes").OK(); !strings.HasSuffix(path, "/propagated-mount/notes") {
			t.Errorf("mounted at %s", path)
		}
		d.Outlet("call", "hello", "VolumeDriver.Create", `{"Name": "x", "Opts": {"size": "1g"}}`).Refused(
			fmt.Sprintf("hello answered VolumeDriver.Create with status 500: there is no option %q", "size"))
		d.Outlet("volume", "unmount", "notes").OK()
		d.Outlet("volume", "rm", "notes").OK()
	})
}
