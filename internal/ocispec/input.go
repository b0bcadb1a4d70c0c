// Package ocispec turns a plugin's config and settings and facts about the host
// into the OCI runtime spec its process is started with
// (docs/spec/managed-plugins.md §9).
//
// It is a pure function: it reads no file and asks the machine nothing.
// Whatever has to be looked up beforehand is in [Input]; [Lookup] says what that
// is. It does not write the spec anywhere, and starts nothing.
package ocispec

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/host"
)

// PluginSockets is the directory inside every plugin in which it serves its
// socket.
const PluginSockets = "/run/docker/plugins"

// MetricsSocket is where a metrics plugin finds the daemon's metrics.
const MetricsSocket = "/run/docker/metrics.sock"

// DefaultCgroupParent is the control group the groups of plugins are made in.
const DefaultCgroupParent = "/outlet"

// Input is all a runtime spec depends on. Nothing in it is changed or kept.
type Input struct {
	// ID is the plugin's; it names its control group.
	ID       string
	Config   outlet.Config
	Settings outlet.Settings

	// Rootfs is the host path of the mounted root filesystem.
	Rootfs string
	// SocketDir is the host directory that is the plugin's [PluginSockets].
	SocketDir string
	// PropagatedDir is the host directory of the propagated mount; it is
	// needed where Config.PropagatedMount is set.
	PropagatedDir string
	// MetricsSocket is the host path of the daemon's metrics socket, given to
	// plugins of type docker.metricscollector/1.0; empty: there is none.
	MetricsSocket string
	// HostsFile and ResolvConf are given to plugins that ask for a network;
	// empty: those of the host, /etc/hosts and /etc/resolv.conf.
	HostsFile, ResolvConf string

	// Devices are the nodes found for the device settings ([Needs.Devices]).
	Devices []host.Device
	// MountFlags are the flags of the mounts that the sources of bind mounts
	// are on ([Needs.Sources]). They only matter in a user namespace.
	MountFlags map[string][]string
	// Missing are the sources of bind mounts that do not exist.
	Missing []string
	// Host is where the plugin will run.
	Host host.Facts

	// CgroupParent is the control group the plugin's own is made in; empty:
	// [DefaultCgroupParent] in the group in which the host lets us make some.
	CgroupParent string
	Limits       Limits
	// HonourUser runs the process as Config.User; Docker runs it as root.
	HonourUser bool
	// NoNewPrivileges keeps the process from gaining privileges by executing
	// set-user-ID programs.
	NoNewPrivileges bool
	// ReadonlyRootfs makes the root filesystem read-only.
	ReadonlyRootfs bool
	// Seccomp, if not nil, is the profile the process runs under.
	Seccomp *specs.LinuxSeccomp
	// Hostname of the plugin; empty: the host's.
	Hostname string
	// OOMScoreAdj, if not nil, is the process's: higher is killed earlier.
	OOMScoreAdj *int
}

// Limits bound what a plugin may use; 0 is no limit.
type Limits struct {
	MemoryBytes int64
	// CPUs is how many processors' time, 1.5 being one and a half.
	CPUs float64
	PIDs int64
}

// Needs are host paths that have to be looked up before [Build].
type Needs struct {
	// Devices are the paths of the device settings, for Input.Devices.
	Devices []string
	// Sources are the sources of bind mounts, for Input.MountFlags and
	// Input.Missing.
	Sources []string
}

// Lookup says what [Build] wants to know of the host for in. It reads the same
// fields as Build does, but for Devices, MountFlags and Missing.
func Lookup(in Input) Needs {
	var n Needs
	for _, d := range in.Settings.Devices {
		if d.Path != nil && *d.Path != "" {
			n.Devices = append(n.Devices, *d.Path)
		}
	}
	in.Missing, in.MountFlags = nil, nil
	b := builder{in: in}
	// What is wrong with a setting is for Build to say.
	_ = b.settings()
	for _, m := range b.mounts() {
		if isBind(m) && !slices.Contains(n.Sources, m.Source) {
			n.Sources = append(n.Sources, m.Source)
		}
	}
	return n
}
