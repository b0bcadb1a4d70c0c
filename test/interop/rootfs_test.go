package interop

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/outletd/outlet/internal/testutil"
)

// object is a piece of config.json.
type object = map[string]any

// contextDir makes a directory as `create` takes it, with an empty root
// filesystem, and returns it.
func contextDir(t *testing.T, config object) string {
	t.Helper()
	dir := t.TempDir()
	b, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// install copies a file of the host to a place in the root filesystem of a
// context, with its mode.
func install(t *testing.T, context, file, place string) {
	t.Helper()
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(context, "rootfs", place)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

var library = regexp.MustCompile(`(?m)(/\S+) \(0x[0-9a-f]+\)$`)

// installProgram installs a program of the host with the shared libraries it
// needs, each at the path where the loader looks for it.
func installProgram(t *testing.T, context, file, place string) {
	t.Helper()
	install(t, context, file, place)
	static, err := testutil.IsStatic(file)
	if err != nil {
		t.Fatal(err)
	}
	if static {
		return
	}
	out, err := exec.Command("ldd", file).Output()
	if err != nil {
		t.Fatalf("ldd %s: %v", file, err)
	}
	for _, m := range library.FindAllStringSubmatch(string(out), -1) {
		install(t, context, m[1], m[1])
	}
}

// write writes a text file into the root filesystem of a context.
func write(t *testing.T, context, place, text string) {
	t.Helper()
	target := filepath.Join(context, "rootfs", place)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(target, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// rclone makes the context of a plugin with the shape of the config.json that
// rclone publishes for its managed plugin, around the rclone of this machine.
func rclone(t *testing.T) string {
	t.Helper()
	program := testutil.Program(t, testutil.Rclone)
	fusermount := testutil.Program(t, testutil.Fuse)
	setting := func(name, value string) object {
		return object{"name": name, "value": value, "settable": []string{"value"}}
	}
	dir := contextDir(t, object{
		"description":   "Rclone volume plugin for Docker",
		"documentation": "https://rclone.org/",
		"interface":     object{"socket": "rclone.sock", "types": []string{"docker.volumedriver/1.0"}},
		"linux": object{
			"capabilities": []string{"CAP_SYS_ADMIN"},
			"devices":      []object{{"path": "/dev/fuse"}},
		},
		"network":    object{"type": "host"},
		"entrypoint": []string{"rclone", "serve", "docker"},
		"workdir":    "/data",
		"args":       object{"name": "args", "value": []string{}, "settable": []string{"value"}},
		"env": []object{
			setting("RCLONE_VERBOSE", "0"),
			{"name": "RCLONE_CONFIG", "value": "/data/config/rclone.conf"},
			{"name": "RCLONE_CACHE_DIR", "value": "/data/cache"},
			{"name": "RCLONE_BASE_DIR", "value": "/mnt"},
			setting("HTTP_PROXY", ""), setting("HTTPS_PROXY", ""), setting("NO_PROXY", ""),
		},
		"mounts": []object{
			{
				"name": "config", "source": "/var/lib/docker-plugins/rclone/config", "destination": "/data/config",
				"type": "bind", "options": []string{"rbind"}, "settable": []string{"source"},
			},
			{
				"name": "cache", "source": "/var/lib/docker-plugins/rclone/cache", "destination": "/data/cache",
				"type": "bind", "options": []string{"rbind"}, "settable": []string{"source"},
			},
		},
		"propagatedMount": "/mnt",
	})
	installProgram(t, dir, program, "/usr/local/bin/rclone")
	installProgram(t, dir, fusermount, "/bin/fusermount3")
	if err := os.Symlink("fusermount3", filepath.Join(dir, "rootfs/bin/fusermount")); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "/etc/fuse.conf", "user_allow_other\n")
	write(t, dir, "/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
	return dir
}
