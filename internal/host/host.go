// Package host finds out facts about the machine: its cgroups and namespaces,
// what this process may do, device nodes, the flags of mounts, and whether a
// program inside a root filesystem can run here.
//
// It reports and changes nothing: what it tries (to mount, to make a cgroup) it
// tries where nobody sees it and takes back. It does not decide what follows
// from a fact.
package host

import (
	"slices"
	"sync"
)

// Facts are what is known of the machine and of this process on it. It is a
// plain value: functions that take it stay pure.
type Facts struct {
	OS          string // the distribution's name, "Debian GNU/Linux 12 (bookworm)"
	Kernel      string // the kernel's release, "6.1.0-18-amd64"
	Arch        string // as Go names it, "amd64"
	CPUs        int    // this process may use
	MemoryBytes int64  // of the machine; 0 when it does not tell
	PageSize    int

	UID int // effective user id
	// UserNS says that this process runs in a user namespace other than the
	// first one.
	UserNS bool
	// Rootless says that this process is not the machine's root: its effective
	// user id is not 0, or it is that only within a user namespace.
	Rootless bool
	// Capabilities are this process's effective ones, inside its user
	// namespace.
	Capabilities Capabilities
	// CanUnshare says that namespaces (mount, network, UTS, IPC, PID) can be
	// made; UnshareError says why not.
	CanUnshare   bool
	UnshareError string
	// CanMount says that filesystems can be mounted; MountError says why not.
	CanMount   bool
	MountError string
	// CanMakeUserNS says that a new user namespace can be made.
	CanMakeUserNS bool

	Cgroups Cgroups
	// OOMScoreAdj is this process's own. Lowering it takes CAP_SYS_RESOURCE.
	OOMScoreAdj int
	// ThermalThrottle are the existing directories
	// /sys/devices/system/cpu/cpu*/thermal_throttle, sorted.
	ThermalThrottle []string
}

// HasCapability says whether this process has a capability, by its name with
// CAP_ in front. Names that are not known are not had.
func (f Facts) HasCapability(name string) bool { return f.Capabilities.Has(name) }

// Clone returns a copy that shares nothing with f.
func (f Facts) Clone() Facts {
	f.Cgroups.Controllers = slices.Clone(f.Cgroups.Controllers)
	f.ThermalThrottle = slices.Clone(f.ThermalThrottle)
	return f
}

// Host answers with facts about the machine. Its zero value is ready for use
// and safe for concurrent use.
type Host struct {
	once  sync.Once
	facts Facts
}

// Facts returns what is known of the machine. The first call finds out, which
// takes a few milliseconds; later calls answer from memory.
func (h *Host) Facts() Facts {
	h.once.Do(func() { h.facts = gather() })
	return h.facts.Clone()
}

// CgroupMode is how the machine's control groups are mounted.
type CgroupMode string

// The ways control groups are mounted.
const (
	CgroupNone   CgroupMode = "none"   // not at /sys/fs/cgroup
	CgroupV1     CgroupMode = "v1"     // a hierarchy for each controller
	CgroupHybrid CgroupMode = "hybrid" // v1, and an empty v2 hierarchy beside
	CgroupV2     CgroupMode = "v2"     // one hierarchy
)

// Cgroups is what is known of the machine's control groups.
type Cgroups struct {
	Mode CgroupMode
	// Controllers are those in which this process can make groups, sorted;
	// empty when it can make none.
	Controllers []string
	// Base is the group in which this process can make groups: "/", or, where
	// only that was delegated to it, its own. Empty when it can make none.
	Base string
}

// Usable says that this process can make control groups.
func (c Cgroups) Usable() bool { return len(c.Controllers) > 0 }

// Has says whether groups can be made for a controller.
func (c Cgroups) Has(controller string) bool { return slices.Contains(c.Controllers, controller) }
