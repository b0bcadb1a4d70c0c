package chroot

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/outletd/outlet"
)

// plan is what is done with the mounts of a spec.
type plan struct {
	links  []specs.Mount // sources owned by the container
	copies []string      // files that are copied from the same path of the host
	dirs   []string      // plain directories instead of mounts
}

// copied are the files whose content is as good as a bind mount.
var copied = []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}

// comfort are file systems that every container gets below /proc, /dev and /sys
// and that most plugins can do without.
var comfort = []string{"proc", "tmpfs", "devpts", "sysfs", "cgroup", "cgroup2", "mqueue"}

// planFor sorts out what can be done without mounts and namespaces. The error
// names everything that cannot, with errdefs.ErrNotImplemented.
func planFor(id string, spec *specs.Spec, owned []string) (plan, error) {
	var p plan
	var refused []string
	refuse := func(format string, args ...any) { refused = append(refused, fmt.Sprintf(format, args...)) }
	for _, m := range spec.Mounts {
		bind := m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
		dest := filepath.Clean(m.Destination)
		switch {
		case bind && slices.Contains(owned, m.Source) && dest != "/":
			p.links = append(p.links, m)
		case bind && m.Source == dest && slices.Contains(copied, dest):
			p.copies = append(p.copies, dest)
		case bind:
			refuse("the bind mount of %s on %s", m.Source, m.Destination)
		case slices.Contains(comfort, m.Type) && isComfort(dest):
			p.dirs = append(p.dirs, dest)
		case m.Type == "tmpfs" && dest != "/" && !slices.ContainsFunc(m.Options, limitsTmpfs):
			p.dirs = append(p.dirs, dest)
		default:
			refuse("the %s mount on %s", m.Type, m.Destination)
		}
	}
	if spec.Root.Readonly {
		refuse("a read-only root filesystem")
	}
	if spec.Process.NoNewPrivileges {
		refuse("no_new_privs")
	}
	if len(spec.Process.Rlimits) > 0 {
		refuse("rlimits")
	}
	if spec.Process.ApparmorProfile != "" || spec.Process.SelinuxLabel != "" {
		refuse("an AppArmor profile or SELinux label")
	}
	if spec.Hooks != nil {
		refuse("hooks")
	}
	if spec.Linux != nil {
		refused = append(refused, refuseLinux(spec.Linux)...)
	}
	if len(refused) > 0 {
		return plan{}, outlet.Errorf(errdefs.ErrNotImplemented,
			"chroot: start %s: the chroot runtime cannot provide %s", id, strings.Join(refused, ", "))
	}
	return p, nil
}

func refuseLinux(l *specs.Linux) (refused []string) {
	if l.Seccomp != nil {
		refused = append(refused, "a seccomp profile")
	}
	for _, ns := range l.Namespaces {
		if ns.Path != "" {
			refused = append(refused, fmt.Sprintf("the %s namespace %s", ns.Type, ns.Path))
		}
	}
	res := l.Resources
	if res == nil {
		return refused
	}
	if m := res.Memory; m != nil && m.Limit != nil && *m.Limit > 0 {
		refused = append(refused, "a memory limit")
	}
	if c := res.CPU; c != nil && (c.Quota != nil && *c.Quota > 0 || c.Shares != nil && *c.Shares > 0 || c.Cpus != "") {
		refused = append(refused, "a CPU limit")
	}
	if p := res.Pids; p != nil && p.Limit != nil && *p.Limit > 0 {
		refused = append(refused, "a limit of processes")
	}
	return refused
}

func isComfort(dest string) bool {
	for _, top := range []string{"/proc", "/dev", "/sys"} {
		if dest == top || strings.HasPrefix(dest, top+"/") {
			return true
		}
	}
	return false
}

func limitsTmpfs(option string) bool {
	return strings.HasPrefix(option, "size=") || strings.HasPrefix(option, "nr_")
}
