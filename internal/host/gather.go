package host

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// gather finds out all facts. What it cannot find out stays zero: facts are for
// deciding how to go on, and none of them is worth failing for.
func gather() Facts {
	f := Facts{
		OS:          osName(),
		Arch:        runtime.GOARCH,
		CPUs:        runtime.NumCPU(),
		PageSize:    os.Getpagesize(),
		UID:         os.Geteuid(),
		UserNS:      inUserNS(),
		Cgroups:     cgroups("/sys/fs/cgroup", "/proc/self/cgroup"),
		OOMScoreAdj: number("/proc/self/oom_score_adj"),
	}
	f.Rootless = f.UID != 0 || f.UserNS
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		f.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		f.MemoryBytes = int64(info.Totalram) * int64(info.Unit)
	}
	f.Capabilities = effective("/proc/thread-self/status")
	if f.ThermalThrottle, _ = filepath.Glob("/sys/devices/system/cpu/cpu*/thermal_throttle"); f.ThermalThrottle != nil {
		slices.Sort(f.ThermalThrottle)
	}
	unshareErr, mountErr := tryNamespaces()
	f.CanUnshare, f.UnshareError = unshareErr == nil, text(unshareErr)
	f.CanMount, f.MountError = mountErr == nil, text(mountErr)
	f.CanMakeUserNS = tryUserNS()
	return f
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// number reads a file that holds one number; 0 if it does not.
func number(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil {
		return 0
	}
	return n
}

// osName returns the name of the distribution.
func osName() string {
	for _, path := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if name := releaseName(string(b)); name != "" {
			return name
		}
	}
	return "Linux"
}

// releaseName takes PRETTY_NAME out of the text of an os-release file.
func releaseName(text string) string {
	for line := range strings.Lines(text) {
		value, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME=")
		if !ok {
			continue
		}
		if unquoted, err := strconv.Unquote(value); err == nil {
			return unquoted
		}
		return strings.Trim(value, `'"`)
	}
	return ""
}

// inUserNS says whether this process is in a user namespace other than the
// first.
func inUserNS() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && !firstUserNS(string(b))
}

// firstUserNS says whether a uid_map is that of the first user namespace, which
// maps all ids to themselves.
func firstUserNS(uidMap string) bool {
	return slices.Equal(strings.Fields(uidMap), []string{"0", "0", "4294967295"})
}

// effective reads the effective capabilities from a status file of /proc.
func effective(path string) Capabilities {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "CapEff:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			if err != nil {
				return 0
			}
			return Capabilities(n)
		}
	}
	return 0
}
