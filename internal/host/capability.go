package host

import "slices"

// Capabilities is a set of Linux capabilities, a bit for each.
type Capabilities uint64

// AllCapabilities is the set of every capability this package knows by name.
const AllCapabilities Capabilities = 1<<41 - 1

// capabilityNames are the kernel's names in the order of their numbers.
var capabilityNames = [...]string{ //nolint:gochecknoglobals // a constant table
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// KnownCapability says whether name is that of a Linux capability, with CAP_ in
// front.
func KnownCapability(name string) bool { return slices.Contains(capabilityNames[:], name) }

// Has says whether the set holds the capability called name.
func (c Capabilities) Has(name string) bool {
	i := slices.Index(capabilityNames[:], name)
	return i >= 0 && c&(1<<i) != 0
}

// Without returns the set less the capabilities called names.
func (c Capabilities) Without(names ...string) Capabilities {
	for _, name := range names {
		if i := slices.Index(capabilityNames[:], name); i >= 0 {
			c &^= 1 << i
		}
	}
	return c
}

// Names returns the names of the set's capabilities, by number.
func (c Capabilities) Names() []string {
	var names []string
	for i, name := range capabilityNames {
		if c&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}
