package ocispec

import (
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/outletd/outlet"
)

// settings checks the mounts of the settings and turns them into those of the
// spec.
func (b *builder) settings() error {
	for _, m := range b.in.Settings.Mounts {
		if m.Source == nil {
			return outlet.Errorf(errdefs.ErrInvalidArgument, "mount source is not specified")
		}
		if m.NotSet() {
			b.warn("%s has no source and is left out%s", mountName(m), hint(m))
			continue
		}
		if m.Destination == "" || !path.IsAbs(m.Destination) || path.Clean(m.Destination) == "/" {
			return outlet.Errorf(errdefs.ErrInvalidArgument, "invalid plugin config: Mounts: %s: destination %q is not an absolute path below /",
				mountName(m), m.Destination)
		}
		s := specs.Mount{
			Destination: path.Clean(m.Destination),
			Type:        m.Type,
			Source:      *m.Source,
			Options:     options(m.Options),
		}
		if wantsBind(m) {
			if !path.IsAbs(s.Source) {
				// The runtime would take it as relative to its bundle.
				return outlet.Errorf(errdefs.ErrInvalidArgument, "%s: source %q is not an absolute path%s", mountName(m), s.Source, hint(m))
			}
			s.Type = "bind"
			if !isBind(s) {
				s.Options = append(s.Options, "rbind")
			}
		}
		b.user = append(b.user, s)
	}
	return nil
}

// wantsBind says whether a mount of the config means to bind: by its type, by
// its options, or because a path is all it has.
func wantsBind(m outlet.Mount) bool {
	return m.IsBind() || (m.Type == "none" || m.Type == "") && path.IsAbs(*m.Source)
}

// isBind says whether a mount of a spec is a bind mount.
func isBind(m specs.Mount) bool {
	return slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
}

// options returns mount options in the words the runtime knows.
func options(in []string) []string {
	var out []string
	for _, o := range in {
		switch o {
		case "":
			continue
		case "readonly":
			o = "ro"
		}
		out = append(out, o)
	}
	return out
}

func mountName(m outlet.Mount) string {
	if m.Name != "" {
		return "mount " + m.Name
	}
	return "the mount on " + m.Destination
}

// hint says how the source of a mount is set, if it can be.
func hint(m outlet.Mount) string {
	if m.Name == "" || !slices.Contains(m.Settable, "source") {
		return ""
	}
	return "; set it with " + m.Name + ".source=PATH"
}

// checkSources fails on the first bind mount whose source does not exist.
func (b *builder) checkSources() error {
	for _, m := range b.in.Settings.Mounts {
		if m.NotSet() || !wantsBind(m) || !slices.Contains(b.in.Missing, *m.Source) {
			continue
		}
		text := "create it"
		if h := hint(m); h != "" {
			text = "create it, or" + strings.TrimPrefix(strings.Replace(h, "set it", "set another", 1), ";")
		}
		return outlet.Errorf(errdefs.ErrInvalidArgument, "%s: its source %s does not exist on this host: %s", mountName(m), *m.Source, text)
	}
	return nil
}

// mounts returns all mounts of the spec, in order.
func (b *builder) mounts() []specs.Mount {
	own := b.own()
	taken := make([]string, 0, len(b.user)+1)
	for _, m := range b.user {
		taken = append(taken, m.Destination)
	}
	if b.in.Config.PropagatedMount != "" {
		taken = append(taken, own[0].Destination)
	}
	var all []specs.Mount
	for _, m := range b.defaults() {
		// With shared propagation a fresh devpts on a bound /dev would reach
		// the host.
		if !slices.ContainsFunc(taken, func(d string) bool { return atOrBelow(d, m.Destination) }) {
			all = append(all, m)
		}
	}
	if b.in.Config.PropagatedMount != "" {
		all = append(all, own[0])
		own = own[1:]
	}
	all = append(all, b.user...)
	all = append(all, own...)
	if b.in.Host.UserNS {
		for i := range all {
			all[i] = b.lock(all[i])
		}
	}
	return all
}

// atOrBelow says whether p is dir or a path below it.
func atOrBelow(dir, p string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// own returns the bind mounts that are not of the settings: the propagated
// mount, if there is one, first.
func (b *builder) own() []specs.Mount {
	in := b.in
	var own []specs.Mount
	if in.Config.PropagatedMount != "" {
		own = append(own, bind(in.PropagatedDir, path.Clean("/"+in.Config.PropagatedMount), "rbind", "rw", "rshared"))
	}
	own = append(own, bind(in.SocketDir, PluginSockets, "rbind", "rshared"))
	if in.Config.Network.Type != "" {
		for _, m := range []specs.Mount{
			bind(orElse(in.HostsFile, "/etc/hosts"), "/etc/hosts", "rbind", "ro"),
			bind(orElse(in.ResolvConf, "/etc/resolv.conf"), "/etc/resolv.conf", "rbind", "ro"),
		} {
			if slices.Contains(in.Missing, m.Source) {
				b.warn("there is no %s on this host for the plugin to use", m.Source)
				continue
			}
			own = append(own, m)
		}
	}
	if in.MetricsSocket != "" && slices.ContainsFunc(in.Config.Interface.Types, collectsMetrics) {
		own = append(own, bind(in.MetricsSocket, MetricsSocket, "rbind", "ro"))
	}
	return own
}

func collectsMetrics(c outlet.Capability) bool {
	return c == outlet.Capability{Prefix: "docker", Capability: "metricscollector", Version: "1.0"}
}

func bind(source, destination string, options ...string) specs.Mount {
	return specs.Mount{Destination: destination, Type: "bind", Source: source, Options: options}
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// defaults are the mounts every plugin gets.
func (b *builder) defaults() []specs.Mount {
	pts := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}
	if !b.in.Host.UserNS {
		pts = append(pts, "gid=5") // a group that need not be mapped there
	}
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: pts},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777"}},
	}
	if b.in.Host.UserNS {
		for i := range mounts {
			mounts[i] = b.instead(mounts[i])
		}
		mounts = slices.DeleteFunc(mounts, func(m specs.Mount) bool {
			// Binding /sys brings the control groups along; and a host may
			// have no /dev/mqueue.
			return m.Destination == "/sys/fs/cgroup" && b.in.Config.Network.Type == networkHost ||
				isBind(m) && slices.Contains(b.in.Missing, m.Source)
		})
	}
	return mounts
}

// instead returns what takes the place of a default mount in a user namespace:
// a fresh instance of what shows a namespace may only be mounted by who owns
// that namespace, and the host's is not ours.
func (b *builder) instead(m specs.Mount) specs.Mount {
	shown := map[string]bool{
		"/proc":       b.in.Config.PidHost,
		"/dev/shm":    b.in.Config.IpcHost,
		"/dev/mqueue": b.in.Config.IpcHost,
		"/sys":        b.in.Config.Network.Type == networkHost,
	}
	if !shown[m.Destination] {
		return m
	}
	options := []string{"rbind", "nosuid", "noexec", "nodev"}
	if m.Destination == "/sys" {
		options = append(options, "ro")
	}
	return bind(m.Destination, m.Destination, options...)
}

// lock adds to a bind mount the flags that the mount of its source has and
// that a user namespace may not take off: the kernel refuses to remount it
// otherwise.
func (b *builder) lock(m specs.Mount) specs.Mount {
	if !isBind(m) {
		return m
	}
	flags, ok := b.in.MountFlags[m.Source]
	if !ok {
		return m
	}
	m.Options = slices.Clone(m.Options)
	for _, flag := range flags {
		if flag == "ro" {
			// "rw" would be an attempt to take it off.
			m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return o == "rw" })
		}
		if !slices.Contains(m.Options, flag) {
			m.Options = append(m.Options, flag)
		}
	}
	return m
}
