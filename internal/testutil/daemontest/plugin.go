package daemontest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// PluginSocket is the name of the socket of a plugin made by [Context], and
// PluginListen its path inside the plugin.
const (
	PluginSocket = "p.sock"
	PluginListen = "/run/docker/plugins/" + PluginSocket
)

// PluginConfig is the config.json of a volume plugin whose entry point is
// "/plugin" with the arguments.
func PluginConfig(args ...string) map[string]any {
	return map[string]any{
		"description": "made by a test",
		"entrypoint":  append([]string{"/plugin"}, args...),
		"interface":   map[string]any{"socket": PluginSocket, "types": []string{"docker.volumedriver/1.0"}},
	}
}

// Context makes a directory as `create` takes it, and returns it: config as
// config.json, and a root filesystem that holds the program as /plugin.
func Context(t testing.TB, config map[string]any, program string) string {
	t.Helper()
	dir := t.TempDir()
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	// A copy, and no link: tar takes it for a change when another process makes
	// or removes a link to the same file, or builds the program again.
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "rootfs/plugin"), b, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Tar packs a directory that `create` takes, and returns the archive's path.
func Tar(t testing.TB, dir string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "context.tar")
	if out, err := exec.Command("tar", "-C", dir, "-cf", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	return path
}
