package cli

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// DaemonFlags are the values of the daemon's options. Which of them the user
// has given, and which are only defaults, says [DaemonFlags.Given]: those given
// win over daemon.json, and may not stand in both.
type DaemonFlags struct {
	ConfigFile string // --config-file
	Validate   bool   // --validate: check the configuration and end

	DataRoot string   // --data-root
	ExecRoot string   // --exec-root
	PIDFile  string   // --pidfile
	Hosts    []string // --host, several
	Group    string   // --group

	Debug     bool   // --debug
	LogLevel  string // --log-level: debug, info, warn, error
	LogFormat string // --log-format: text, json

	LiveRestore     bool          // --live-restore
	ShutdownTimeout int           // --shutdown-timeout, in seconds; -1 is no limit
	StartTimeout    time.Duration // --start-timeout
	StopTimeout     time.Duration // --stop-timeout
	Runtime         string        // --runtime: runc, chroot, or a path
	Snapshotter     string        // --snapshotter: overlay, native
	CgroupParent    string        // --cgroup-parent
	GatewayDir      string        // --gateway-dir
	V1SocketDir     string        // --v1-socket-dir
	V1SpecDirs      []string      // --v1-spec-dir, several
	MetricsAddr     string        // --metrics-addr

	TLS       bool   // --tls
	TLSVerify bool   // --tlsverify
	TLSCACert string // --tlscacert
	TLSCert   string // --tlscert
	TLSKey    string // --tlskey

	Policy                 string
	InsecureRegistries     []string // --insecure-registry
	RegistryMirrors        []string // --registry-mirror
	AuthorizationPlugins   []string // --authorization-plugin
	Labels                 []string // --label
	MaxConcurrentDownloads int      // --max-concurrent-downloads
	MaxConcurrentUploads   int      // --max-concurrent-uploads
	MaxDownloadAttempts    int      // --max-download-attempts

	given map[string]bool
}

// Given says whether the user gave an option, by its long name without dashes.
func (f DaemonFlags) Given(name string) bool { return f.given[name] }

// Directives gives the options the user gave as the keys and values they have
// in daemon.json.
func (f DaemonFlags) Directives() map[string]json.RawMessage {
	all := map[string]any{
		"data-root": f.DataRoot, "exec-root": f.ExecRoot, "pidfile": f.PIDFile, "host": f.Hosts, "group": f.Group,
		"debug": f.Debug, "log-level": f.LogLevel, "log-format": f.LogFormat,
		"live-restore": f.LiveRestore, "shutdown-timeout": f.ShutdownTimeout,
		"start-timeout": f.StartTimeout.String(), "stop-timeout": f.StopTimeout.String(),
		"runtime": f.Runtime, "snapshotter": f.Snapshotter, "cgroup-parent": f.CgroupParent,
		"gateway-dir": f.GatewayDir, "metrics-addr": f.MetricsAddr,
		"v1-socket-dir": f.V1SocketDir, "v1-spec-dir": f.V1SpecDirs,
		"tls": f.TLS, "tlsverify": f.TLSVerify, "tlscacert": f.TLSCACert, "tlscert": f.TLSCert, "tlskey": f.TLSKey,
		"policy": f.Policy, "insecure-registry": f.InsecureRegistries, "registry-mirror": f.RegistryMirrors,
		"authorization-plugin": f.AuthorizationPlugins, "label": f.Labels,
		"max-concurrent-downloads": f.MaxConcurrentDownloads, "max-concurrent-uploads": f.MaxConcurrentUploads,
		"max-download-attempts": f.MaxDownloadAttempts,
	}
	// As in dockerd, an option that may be given several times is a list of
	// another name in the file.
	lists := map[string]string{
		"host": "hosts", "insecure-registry": "insecure-registries", "registry-mirror": "registry-mirrors",
		"authorization-plugin": "authorization-plugins", "label": "labels",
		"v1-spec-dir": "v1-spec-dirs",
	}
	out := make(map[string]json.RawMessage)
	for name, value := range all {
		if !f.given[name] {
			continue
		}
		key := name
		if list, ok := lists[name]; ok {
			key = list
		}
		raw, _ := json.Marshal(value) // strings, numbers, booleans and lists of strings
		out[key] = raw
	}
	return out
}

func newDaemonCmd(env *Env) *cobra.Command {
	var o DaemonFlags
	cmd := &cobra.Command{
		Use:   "daemon [OPTIONS]",
		Short: "Run the daemon",
		Long: `Run the daemon in the foreground. It logs to standard error.

Options that are not given are taken from the configuration file, whose keys are
dockerd's (data-root, exec-root, hosts, live-restore, …). SIGTERM and SIGINT end
the daemon; plugins go on running, unless live-restore is false. SIGHUP reads the
configuration file again. Defaults for users other than root are below
XDG_DATA_HOME, XDG_RUNTIME_DIR and XDG_CONFIG_HOME.

A TCP host needs --tlsverify and certificates: whoever may talk to the daemon is
root on this machine.`,
		Example: `  outlet daemon
  outlet daemon -G plugins --log-format json
  outlet daemon -H unix:///tmp/o.sock --data-root /tmp/o --exec-root /tmp/o-run
  outlet daemon -H unix:///run/outlet/outlet.sock -H tcp://0.0.0.0:2376 --tlsverify \
      --tlscacert ca.pem --tlscert server-cert.pem --tlskey server-key.pem`,
		Annotations: map[string]string{exitCodes: `  0    ended by SIGTERM or SIGINT, or --validate found no error
  1    the daemon could not start or failed
  2    unknown option or value of an option`},
		Args:                  noArgs,
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if env.RunDaemon == nil {
				return errors.New("the daemon is not part of this program")
			}
			if o.ShutdownTimeout < -1 {
				return usagef("invalid value %d for --shutdown-timeout: write seconds, or -1 for no limit", o.ShutdownTimeout)
			}
			if o.StartTimeout < 0 || o.StopTimeout < 0 {
				return usagef("--start-timeout and --stop-timeout cannot be negative")
			}
			o.given = make(map[string]bool)
			cmd.Flags().Visit(func(f *pflag.Flag) { o.given[f.Name] = true })
			return env.RunDaemon(cmd.Context(), o)
		},
	}
	o.addFlags(cmd.Flags())
	return cmd
}

// addFlags declares the options under dockerd's names where dockerd has them.
func (f *DaemonFlags) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&f.ConfigFile, "config-file", "", "Daemon configuration `file` (default /etc/outlet/daemon.json)")
	flags.BoolVar(&f.Validate, "validate", false, "Check the configuration and end")
	flags.StringVar(&f.DataRoot, "data-root", "", "Persistent state is kept in this `directory` (default /var/lib/outlet)")
	flags.StringVar(&f.ExecRoot, "exec-root", "", "State that ends with the machine is kept in this `directory` (default /run/outlet)")
	flags.StringVarP(&f.PIDFile, "pidfile", "p", "", "Write the daemon's process ID to this `file` (default: none)")
	flags.StringArrayVarP(&f.Hosts, "host", "H", nil, "Where to listen, unix:///path or tcp://host:port (`list`); may be given several times (default unix:///run/outlet/outlet.sock)")
	flags.StringVarP(&f.Group, "group", "G", "", "Let this `group` use the unix socket")
	flags.BoolVarP(&f.Debug, "debug", "D", false, "Log steps, as --log-level debug")
	flags.StringVarP(&f.LogLevel, "log-level", "l", "info", "Least important `level` that is logged: debug, info, warn, error")
	flags.StringVar(&f.LogFormat, "log-format", "text", "How the log is written (`format`): text, json")
	flags.BoolVar(&f.LiveRestore, "live-restore", true, "Let plugins outlive the daemon")
	flags.IntVar(&f.ShutdownTimeout, "shutdown-timeout", 30, "How many `seconds` plugins and requests have to end; -1 is no limit")
	flags.DurationVar(&f.StartTimeout, "start-timeout", 15*time.Second, "How long a plugin may take until its socket accepts")
	flags.DurationVar(&f.StopTimeout, "stop-timeout", 10*time.Second, "How long a plugin has to end before it is killed")
	flags.StringVar(&f.Runtime, "runtime", "", "What runs plugins: runc, chroot (isolates nothing), or a `path` of runc (default: runc beside this program, in ../libexec/outlet, on PATH)")
	flags.StringVar(&f.Snapshotter, "snapshotter", "", "How root filesystems are made: overlay or native (default: overlay where it works)")
	flags.StringVar(&f.CgroupParent, "cgroup-parent", "outlet", "Parent `cgroup` of all plugins")
	flags.StringVar(&f.GatewayDir, "gateway-dir", "", "Serve a v1 socket for each running plugin in this `directory` (default: none)")
	flags.StringVar(&f.V1SocketDir, "v1-socket-dir", "", "Look for sockets of v1 plugins in this `directory` (default /run/docker/plugins)")
	flags.StringArrayVar(&f.V1SpecDirs, "v1-spec-dir", nil, "Look for spec and JSON files of v1 plugins in this `directory`; may be given several times (default /etc/docker/plugins, /usr/lib/docker/plugins)")
	flags.StringVar(&f.MetricsAddr, "metrics-addr", "", "Serve metrics on this `address` (default: none)")
	flags.BoolVar(&f.TLS, "tls", false, "Use TLS; implied by --tlsverify")
	flags.BoolVar(&f.TLSVerify, "tlsverify", false, "Use TLS and verify the client")
	flags.StringVar(&f.TLSCACert, "tlscacert", "", "Trust certificates signed only by this CA (`file`)")
	flags.StringVar(&f.TLSCert, "tlscert", "", "TLS certificate `file`")
	flags.StringVar(&f.TLSKey, "tlskey", "", "TLS key `file`")
	flags.StringVar(&f.Policy, "policy", "", "Rules about which plugins may be installed, a `file` (default: none)")
	flags.StringArrayVar(&f.InsecureRegistries, "insecure-registry", nil, "Reach this `registry` without TLS, or with any certificate")
	flags.StringArrayVar(&f.RegistryMirrors, "registry-mirror", nil, "Ask this `mirror` before the registry itself")
	flags.StringArrayVar(&f.AuthorizationPlugins, "authorization-plugin", nil, "Ask this `plugin` whether a request is allowed")
	flags.StringArrayVar(&f.Labels, "label", nil, "Set a label of the daemon, `key=value`")
	flags.IntVar(&f.MaxConcurrentDownloads, "max-concurrent-downloads", 3, "Downloads at once for each pull")
	flags.IntVar(&f.MaxConcurrentUploads, "max-concurrent-uploads", 5, "Uploads at once for each push")
	flags.IntVar(&f.MaxDownloadAttempts, "max-download-attempts", 5, "Attempts for each download")
}
