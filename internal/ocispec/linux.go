package ocispec

import (
	"path"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/host"
)

// networkHost is the network type that shares the host's.
const networkHost = "host"

// linux puts together what only Linux has.
func (b *builder) linux() *specs.Linux {
	in := b.in
	l := &specs.Linux{
		Namespaces:    b.namespaces(),
		MaskedPaths:   maskedPaths(in.Host.ThermalThrottle),
		ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		Seccomp:       in.Seccomp,
	}
	if in.Config.PropagatedMount != "" {
		l.RootfsPropagation = "rshared"
	}
	if !in.Config.Linux.AllowAllDevices {
		l.Devices = b.devices()
	}
	if in.Host.Rootless && !in.Host.Cgroups.Usable() {
		b.warnLimits()
		return l
	}
	l.CgroupsPath = path.Join("/", in.CgroupParent, in.ID)
	if in.CgroupParent == "" {
		l.CgroupsPath = path.Join("/", in.Host.Cgroups.Base, DefaultCgroupParent, in.ID)
	}
	l.Resources = b.resources()
	return l
}

func (b *builder) warnLimits() {
	if b.in.Limits != (Limits{}) {
		b.warn("resource limits are left out: no control groups can be made here")
	}
}

// limits says whether a limit that is wanted can be set, and warns if not.
func (b *builder) limits(wanted bool, controller, what string) bool {
	if wanted && !b.in.Host.Cgroups.Has(controller) {
		b.warn("the limit of %s is left out: control groups for it (%s) cannot be made here", what, controller)
		return false
	}
	return wanted
}

func maskedPaths(thermal []string) []string {
	masked := []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware",
	}
	return append(masked, thermal...)
}

func (b *builder) namespaces() []specs.LinuxNamespace {
	types := []specs.LinuxNamespaceType{
		specs.MountNamespace, specs.NetworkNamespace, specs.UTSNamespace, specs.PIDNamespace, specs.IPCNamespace,
	}
	var namespaces []specs.LinuxNamespace
	for _, t := range types {
		switch {
		case t == specs.NetworkNamespace && b.in.Config.Network.Type == networkHost,
			t == specs.PIDNamespace && b.in.Config.PidHost,
			t == specs.IPCNamespace && b.in.Config.IpcHost:
			continue
		}
		namespaces = append(namespaces, specs.LinuxNamespace{Type: t})
	}
	return namespaces
}

// defaultCapabilities are those every plugin has.
var defaultCapabilities = []string{ //nolint:gochecknoglobals // a constant list
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// capabilities returns what the process may do: the defaults and what the
// config asks for, less what does not exist or is not ours to give.
func (b *builder) capabilities() *specs.LinuxCapabilities {
	var asked []string
	for _, name := range b.in.Config.Linux.Capabilities {
		switch {
		case slices.Contains(asked, name):
		case !host.KnownCapability(name):
			b.warn("capability %q is not known and is left out", name)
		case !b.in.Host.HasCapability(name):
			b.warn("capability %s is left out: outlet does not have it here and cannot give it", name)
		default:
			asked = append(asked, name)
		}
	}
	var all []string
	for _, name := range slices.Concat(defaultCapabilities, asked) {
		if b.in.Host.HasCapability(name) && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	c := &specs.LinuxCapabilities{
		Bounding:    all,
		Effective:   slices.Clone(all),
		Permitted:   slices.Clone(all),
		Inheritable: asked,
	}
	if b.in.HonourUser && b.in.Config.User.UID != 0 {
		// Another user loses all of them when it executes a program, but for
		// these.
		c.Ambient = slices.Clone(asked)
	}
	return c
}

// checkDevices checks that every device of the settings has a path.
func (b *builder) checkDevices() error {
	for _, d := range b.in.Settings.Devices {
		if d.Path != nil && *d.Path != "" {
			continue
		}
		text := "device path is not specified"
		if d.Name != "" && slices.Contains(d.Settable, "path") {
			text += "; set it with " + d.Name + ".path=PATH"
		}
		return outlet.Errorf(errdefs.ErrInvalidArgument, "%s", text)
	}
	return nil
}

// devices returns the nodes to be made.
func (b *builder) devices() []specs.LinuxDevice {
	var out []specs.LinuxDevice
	seen := make(map[string]bool)
	for _, d := range b.in.Devices {
		if seen[d.Path] {
			continue
		}
		seen[d.Path] = true
		mode, uid, gid := d.Mode, d.UID, d.GID
		out = append(out, specs.LinuxDevice{
			Path: d.Path, Type: d.Type, Major: d.Major, Minor: d.Minor,
			FileMode: &mode, UID: &uid, GID: &gid,
		})
	}
	return out
}

// resources returns the rules for devices and the limits.
func (b *builder) resources() *specs.LinuxResources {
	r := &specs.LinuxResources{}
	if !b.in.Host.UserNS {
		r.Devices = b.deviceRules()
	}
	if n := b.in.Limits.MemoryBytes; b.limits(n > 0, "memory", "memory") {
		r.Memory = &specs.LinuxMemory{Limit: &n}
	}
	if n := b.in.Limits.PIDs; b.limits(n > 0, "pids", "processes") {
		r.Pids = &specs.LinuxPids{Limit: &n}
	}
	if cpus := b.in.Limits.CPUs; b.limits(cpus > 0, "cpu", "processor time") {
		period := uint64(100_000) // µs: the kernel's own default
		quota := max(int64(cpus*float64(period)), 1000)
		r.CPU = &specs.LinuxCPU{Period: &period, Quota: &quota}
	}
	if r.Devices == nil && r.Memory == nil && r.Pids == nil && r.CPU == nil {
		return nil
	}
	return r
}

// rwm is every kind of access to a device.
const rwm = "rwm"

// deviceRules returns which devices may be used, in the order in which the
// rules apply.
func (b *builder) deviceRules() []specs.LinuxDeviceCgroup {
	if b.in.Config.Linux.AllowAllDevices {
		return []specs.LinuxDeviceCgroup{{Allow: true, Access: rwm}}
	}
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: rwm}}
	rule := func(allow bool, kind string, major, minor int64) {
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: allow, Type: kind, Major: &major, Minor: &minor, Access: rwm})
	}
	rule(true, "c", 1, 5) // zero
	rule(true, "c", 1, 3) // null
	rule(true, "c", 1, 9) // urandom
	rule(true, "c", 1, 8) // random
	rule(true, "c", 5, 0) // tty
	rule(true, "c", 5, 1) // console
	rule(false, "c", 10, 229)
	for _, d := range b.devices() {
		rule(true, d.Type, d.Major, d.Minor)
	}
	return rules
}
