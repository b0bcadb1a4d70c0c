package daemon

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

func noEnv(string) string { return "" }

func load(t *testing.T, file string, flags map[string]string) (Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	raw := make(map[string]json.RawMessage)
	for k, v := range flags {
		raw[k] = json.RawMessage(v)
	}
	return Load(Defaults(0, noEnv), path, false, raw)
}

func TestConfigIsFlagsThenFileThenDefaults(t *testing.T) {
	c, err := load(t, `{"data-root": "/srv/o", "start-timeout": "3s", "live-restore": false,
		"plugins": {"memory": "64m", "cpus": 1.5, "log-max-size": 1048576}, "registry-mirrors": ["https://m"]}`,
		map[string]string{"exec-root": `"/run/x"`, "debug": "true"})
	if err != nil {
		t.Fatal(err)
	}
	if c.DataRoot != "/srv/o" || c.ExecRoot != "/run/x" || !c.Debug || c.LiveRestore {
		t.Errorf("got %+v", c)
	}
	if time.Duration(c.StartTimeout) != 3*time.Second || time.Duration(c.StopTimeout) != 10*time.Second {
		t.Errorf("timeouts %v, %v", c.StartTimeout, c.StopTimeout)
	}
	if c.Plugins.Memory != 64<<20 || c.Plugins.CPUs != 1.5 || c.Plugins.LogMaxSize != 1<<20 {
		t.Errorf("plugins %+v", c.Plugins)
	}
	if len(c.Hosts) != 1 || c.Hosts[0] != "unix:///run/x/outlet.sock" {
		t.Errorf("hosts %v", c.Hosts)
	}
}

func TestConfigRefusesWhatCannotBeMeant(t *testing.T) {
	for name, tc := range map[string]struct {
		file  string
		flags map[string]string
		want  string
	}{
		"a key that does not exist":             {`{"dataroot": "/x"}`, nil, "don't match any configuration option: dataroot"},
		"a key within plugins that is unknown":  {`{"plugins": {"memry": 1}}`, nil, "memry"},
		"a key in the file and as a flag":       {`{"debug": true}`, map[string]string{"debug": "false"}, "both as a flag and in the configuration file: debug"},
		"a value of another type":               {`{"hosts": "unix:///x"}`, nil, "hosts"},
		"what is not JSON":                      {`{"debug": tru}`, nil, "invalid character"},
		"TCP without certificates":              {`{"hosts": ["tcp://127.0.0.1:2376"]}`, nil, "TCP needs --tlsverify"},
		"TLS that verifies nobody":              {`{"tls": true}`, nil, "tls without tlsverify"},
		"a unix socket with two slashes":        {`{"hosts": ["unix://run/x.sock"]}`, nil, "three slashes"},
		"a socket path that is too long":        {`{"hosts": ["unix:///` + strings.Repeat("x", 107) + `"]}`, nil, "at most 107 bytes"},
		"another scheme":                        {`{"hosts": ["http://x"]}`, nil, "must begin with unix:// or tcp://"},
		"a log level that does not exist":       {`{"log-level": "loud"}`, nil, "loud"},
		"a start timeout of nothing":            {`{"start-timeout": "0s"}`, nil, "must not be 0"},
		"a negative timeout":                    {`{"stop-timeout": "-1s"}`, nil, "negative duration"},
		"a size with an unknown unit":           {`{"plugins": {"memory": "64q"}}`, nil, "not a size"},
		"one directory for two purposes":        {`{"data-root": "/x", "exec-root": "/x"}`, nil, "must not be the same directory"},
		"a file to look for sockets in":         {`{"v1-socket-dir": "/proc/self/status"}`, nil, "v1-socket-dir: /proc/self/status is not a directory"},
		"a file to look for spec files in":      {`{"v1-spec-dirs": ["/", "/proc/self/status"]}`, nil, "v1-spec-dirs: /proc/self/status is not a directory"},
		"no path to look for spec files in":     {`{"v1-spec-dirs": ["/", ""]}`, nil, `v1-spec-dirs: "" is not a path`},
		"a snapshotter that is not one of ours": {`{"snapshotter": "zfs"}`, nil, "neither overlayfs nor native"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, tc.file, tc.flags)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want something with %q", err, tc.want)
			}
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%v is not an invalid argument", err)
			}
		})
	}
}

func TestPathsMeanTheSameWhereverTheDaemonGoes(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	c, err := load(t, `{"data-root": "lib", "exec-root": "./run", "v1-socket-dir": "sockets/", "v1-spec-dirs": ["a", "/b/../c"]}`, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := append([]string{c.DataRoot, c.ExecRoot, c.V1SocketDir}, c.V1SpecDirs...)
	want := []string{dir + "/lib", dir + "/run", dir + "/sockets", dir + "/a", "/c"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if c, err = load(t, `{"v1-spec-dirs": []}`, nil); err != nil || c.V1SocketDir != "" || c.V1SpecDirs == nil {
		t.Errorf("Docker's places and none: %q, %q, %v", c.V1SocketDir, c.V1SpecDirs, err)
	}
}

func TestConfigFileMayBeMissingOnlyIfNobodyAskedForIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.json")
	if _, err := Load(Defaults(0, noEnv), path, true, nil); err != nil {
		t.Error(err)
	}
	if _, err := Load(Defaults(0, noEnv), path, false, nil); err == nil {
		t.Error("a file that was asked for and is not there is no error")
	}
}

func TestDefaultsOfAnOrdinaryUserAreTheirs(t *testing.T) {
	env := func(k string) string {
		return map[string]string{"HOME": "/home/u", "XDG_RUNTIME_DIR": "/run/user/7"}[k]
	}
	c := Defaults(7, env)
	if c.DataRoot != "/home/u/.local/share/outlet" || c.ExecRoot != "/run/user/7/outlet" {
		t.Errorf("got %s, %s", c.DataRoot, c.ExecRoot)
	}
	if f := DefaultFile(7, env); f != "/home/u/.config/outlet/daemon.json" {
		t.Errorf("got %s", f)
	}
}

func TestParseBytes(t *testing.T) {
	for in, want := range map[string]Bytes{"0": 0, "17": 17, "4k": 4096, "64M": 64 << 20, "1GiB": 1 << 30, "2tb": 2 << 40} {
		if got, err := ParseBytes(in); err != nil || got != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "m", "-1", "1x", "1.5g", "9999999999t", "1 m m"} {
		if got, err := ParseBytes(in); err == nil {
			t.Errorf("%q is taken for %d", in, got)
		}
	}
}
