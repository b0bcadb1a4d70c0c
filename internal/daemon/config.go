package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/store"
)

// Config is how a daemon runs: the values of its flags, of daemon.json, and the
// defaults, in that order. The JSON keys are dockerd's where it has them, and
// name the flags too.
type Config struct {
	DataRoot string   `json:"data-root"`
	ExecRoot string   `json:"exec-root"`
	Hosts    []string `json:"hosts"`
	Group    string   `json:"group"`
	PidFile  string   `json:"pidfile"`

	Debug     bool   `json:"debug"`
	LogLevel  string `json:"log-level"`  // debug, info, warn, error
	LogFormat string `json:"log-format"` // text, json

	LiveRestore     bool     `json:"live-restore"`
	Runtime         string   `json:"runtime"` // "runc", "chroot", or the path of a runc
	Snapshotter     string   `json:"snapshotter"`
	CgroupParent    string   `json:"cgroup-parent"`
	StartTimeout    Duration `json:"start-timeout"`
	StopTimeout     Duration `json:"stop-timeout"`
	ShutdownTimeout Seconds  `json:"shutdown-timeout"`

	TLS       bool   `json:"tls"`
	TLSVerify bool   `json:"tlsverify"`
	TLSCACert string `json:"tlscacert"`
	TLSCert   string `json:"tlscert"`
	TLSKey    string `json:"tlskey"`

	// V1SocketDir and V1SpecDirs are where v1 plugins are looked for; empty is
	// Docker's places.
	V1SocketDir string   `json:"v1-socket-dir"`
	V1SpecDirs  []string `json:"v1-spec-dirs"`

	Labels  []string     `json:"labels"`
	Plugins PluginConfig `json:"plugins"`

	// InsecureRegistries are hosts and networks whose certificates are not
	// verified; RegistryMirrors are asked before Docker Hub.
	InsecureRegistries []string `json:"insecure-registries"`
	RegistryMirrors    []string `json:"registry-mirrors"`
	// MaxConcurrentDownloads bounds the layers one pull downloads at the same
	// time, MaxConcurrentUploads those that one push uploads, and
	// MaxDownloadAttempts how often a request that fails is made.
	MaxConcurrentDownloads int            `json:"max-concurrent-downloads"`
	MaxConcurrentUploads   int            `json:"max-concurrent-uploads"`
	MaxDownloadAttempts    int            `json:"max-download-attempts"`
	Registries             RegistryLimits `json:"registries"`

	// Policy is a file of rules about which plugins may be installed; "" is none.
	Policy string `json:"policy"`

	// What follows is accepted and has no effect yet, so that a daemon.json
	// written for dockerd or for a later version is not refused.
	AuthorizationPlugins []string `json:"authorization-plugins"`
	MetricsAddr          string   `json:"metrics-addr"`
	GatewayDir           string   `json:"gateway-dir"`
}

// PluginConfig bounds every managed plugin.
type PluginConfig struct {
	Memory Bytes   `json:"memory"` // 0 is no limit
	CPUs   float64 `json:"cpus"`   // 0 is no limit
	PIDs   int64   `json:"pids"`   // 0 is no limit
	// HonourUser runs plugins as the User of their config, which Docker
	// ignores.
	HonourUser      bool `json:"honour-user"`
	NoNewPrivileges bool `json:"no-new-privileges"`
	ReadonlyRootfs  bool `json:"readonly-rootfs"`

	// LogMaxSize and LogMaxFiles bound what is kept of a plugin's output;
	// LogRate is the number of lines a second above which lines are dropped.
	LogMaxSize  Bytes `json:"log-max-size"`
	LogMaxFiles int   `json:"log-max-files"`
	LogRate     int64 `json:"log-rate"`

	// MaxArchive and MaxRootfs bound what a plugin is created from,
	// compressed and unpacked; MaxEntries the number of its files.
	MaxArchive Bytes `json:"max-archive"`
	MaxRootfs  Bytes `json:"max-rootfs"`
	MaxEntries int64 `json:"max-entries"`
}

// Duration is a time in Go's form ("15s").
type Duration time.Duration

// UnmarshalText reads Go's form.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err == nil && v < 0 {
		err = fmt.Errorf("negative duration %q", b)
	}
	*d = Duration(v)
	return err
}

// MarshalText writes Go's form.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Seconds is a time as a number of seconds, as dockerd's shutdown-timeout is;
// -1 is no limit.
type Seconds int

// Bytes is a size: a number, or a string with a unit of 1024 ("64m", "1g").
type Bytes int64

// ParseBytes reads a size such as "65536", "64k", "10m" or "1g".
func ParseBytes(s string) (Bytes, error) {
	t := strings.ToLower(strings.TrimSpace(s))
	t = strings.TrimSuffix(strings.TrimSuffix(t, "b"), "i")
	shift := 0
	if i := strings.IndexByte("kmgt", lastByte(t)); i >= 0 && t != "" {
		shift = 10 * (i + 1)
		t = t[:len(t)-1]
	}
	var n int64
	if _, err := fmt.Sscanf(t+"\n", "%d\n", &n); err != nil || n < 0 || n > (1<<62)>>shift {
		return 0, fmt.Errorf("%q is not a size such as 64m or 1g", s)
	}
	return Bytes(n << shift), nil
}

func lastByte(s string) byte {
	if s == "" {
		return 0
	}
	return s[len(s)-1]
}

// UnmarshalJSON reads a number or a string.
func (b *Bytes) UnmarshalJSON(raw []byte) error {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		s = string(raw)
	}
	v, err := ParseBytes(s)
	*b = v
	return err
}

// Defaults returns the configuration of a daemon that was told nothing, for
// root or for an ordinary user of that id.
func Defaults(uid int, env func(string) string) Config {
	c := Config{
		DataRoot:        "/var/lib/outlet",
		ExecRoot:        "/run/outlet",
		LogLevel:        "info",
		LogFormat:       "text",
		LiveRestore:     true,
		Runtime:         "runc",
		CgroupParent:    "/outlet",
		StartTimeout:    Duration(15 * time.Second),
		StopTimeout:     Duration(10 * time.Second),
		ShutdownTimeout: 30,
	}
	if uid != 0 {
		home := env("HOME")
		c.DataRoot = filepath.Join(orJoin(env("XDG_DATA_HOME"), home, ".local/share"), "outlet")
		run := env("XDG_RUNTIME_DIR")
		if run == "" {
			run = fmt.Sprintf("/tmp/outlet-%d", uid)
		}
		c.ExecRoot = filepath.Join(run, "outlet")
	}
	return c
}

// DefaultFile is where daemon.json is looked for.
func DefaultFile(uid int, env func(string) string) string {
	if uid == 0 {
		return "/etc/outlet/daemon.json"
	}
	return filepath.Join(orJoin(env("XDG_CONFIG_HOME"), env("HOME"), ".config"), "outlet", "daemon.json")
}

func orJoin(dir, home, sub string) string {
	if dir != "" {
		return dir
	}
	return filepath.Join(home, sub)
}

// maxConfigFile bounds daemon.json.
const maxConfigFile = 1 << 20

// Load returns the defaults, changed by the file and then by the flags. path is
// the file; if it was not asked for (optional), it may be missing. flags are
// the JSON values of the flags that were given, by key.
//
// Like dockerd it refuses a key that does not exist, and a key that is given
// both in the file and as a flag.
func Load(defaults Config, path string, optional bool, flags map[string]json.RawMessage) (Config, error) {
	file, err := readConfigFile(path, optional)
	if err != nil {
		return Config{}, err
	}
	known := configKeys(reflect.TypeFor[Config]())
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(file)) {
		if !known[key] {
			errs = append(errs, invalid("%s: the following directives don't match any configuration option: %s", path, key))
		}
		if _, both := flags[key]; both {
			errs = append(errs, invalid("%s: the following directives are specified both as a flag and in the configuration file: %s: (from flag: %s, from file: %s)", path, key, flags[key], file[key]))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Config{}, err
	}
	c := defaults
	for _, src := range []struct {
		from   string
		values map[string]json.RawMessage
	}{{path, file}, {"flag", flags}} {
		for _, key := range slices.Sorted(maps.Keys(src.values)) {
			one, err := json.Marshal(map[string]json.RawMessage{key: src.values[key]})
			if err != nil {
				return Config{}, invalid("%s: %s: %v", src.from, key, err)
			}
			dec := json.NewDecoder(bytes.NewReader(one))
			dec.DisallowUnknownFields() // within "plugins"
			if err := dec.Decode(&c); err != nil {
				return Config{}, invalid("%s: %s: %v", src.from, key, err)
			}
		}
	}
	return c, c.validate()
}

func readConfigFile(path string, optional bool) (map[string]json.RawMessage, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && optional {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	defer f.Close() // only read
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	if st.Size() > maxConfigFile {
		return nil, invalid("%s: larger than %d bytes", path, maxConfigFile)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, nil
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err != nil {
		return nil, invalid("%s: %v", path, err)
	}
	return keys, nil
}

func configKeys(t reflect.Type) map[string]bool {
	keys := make(map[string]bool)
	for i := range t.NumField() {
		keys[t.Field(i).Tag.Get("json")] = true
	}
	return keys
}

func (c *Config) validate() error {
	var errs []error
	for _, dir := range []struct {
		key  string
		path *string
	}{{"data-root", &c.DataRoot}, {"exec-root", &c.ExecRoot}} {
		abs, err := filepath.Abs(*dir.path)
		if err != nil || *dir.path == "" {
			errs = append(errs, invalid("%s: %q is not a path", dir.key, *dir.path))
			continue
		}
		*dir.path = abs
	}
	if c.V1SocketDir != "" {
		errs = append(errs, lookupDir("v1-socket-dir", &c.V1SocketDir))
	}
	for i := range c.V1SpecDirs {
		errs = append(errs, lookupDir("v1-spec-dirs", &c.V1SpecDirs[i]))
	}
	if c.DataRoot == c.ExecRoot {
		errs = append(errs, invalid("data-root and exec-root must not be the same directory (%s)", c.DataRoot))
	}
	if _, err := logLevel(c.LogLevel); err != nil {
		errs = append(errs, err)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		errs = append(errs, invalid("log-format: %q is neither text nor json", c.LogFormat))
	}
	switch c.Snapshotter {
	case "overlay":
		c.Snapshotter = store.Overlay
	case "", store.Overlay, store.Native:
	default:
		errs = append(errs, invalid("snapshotter: %q is neither overlayfs nor native", c.Snapshotter))
	}
	if c.StartTimeout == 0 {
		errs = append(errs, invalid("start-timeout: must not be 0: a plugin that never listens would be waited for without end"))
	}
	if c.ShutdownTimeout < -1 {
		errs = append(errs, invalid("shutdown-timeout: %d is neither a number of seconds nor -1, no limit", c.ShutdownTimeout))
	}
	if len(c.Hosts) == 0 {
		c.Hosts = []string{"unix://" + filepath.Join(c.ExecRoot, "outlet.sock")}
	}
	for _, h := range c.Hosts {
		if _, err := parseHost(h, c.TLSVerify); err != nil {
			errs = append(errs, err)
		}
	}
	if c.TLS && !c.TLSVerify {
		errs = append(errs, invalid("tls without tlsverify would let anybody on the network be root here: use tlsverify"))
	}
	if err := c.checkPolicy(); err != nil {
		errs = append(errs, err)
	}
	p := c.Plugins
	if p.Memory < 0 || p.CPUs < 0 || p.PIDs < 0 {
		errs = append(errs, invalid("plugins: limits must not be negative"))
	}
	return errors.Join(errs...)
}

// lookupDir makes the path of a directory that others put things into absolute.
// It may appear later.
func lookupDir(key string, path *string) error {
	abs, err := filepath.Abs(*path)
	if err != nil || *path == "" {
		return invalid("%s: %q is not a path", key, *path)
	}
	if st, err := os.Stat(abs); err == nil && !st.IsDir() {
		return invalid("%s: %s is not a directory", key, abs)
	}
	*path = abs
	return nil
}

func invalid(format string, args ...any) error {
	return outlet.Errorf(errdefs.ErrInvalidArgument, format, args...)
}
