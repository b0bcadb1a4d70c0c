package host

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroups finds out how control groups are mounted below root, and in which of
// them this process, whose groups the file self lists, can make groups.
func cgroups(root, self string) Cgroups {
	list, err := os.ReadFile(self)
	if err != nil {
		return Cgroups{Mode: CgroupNone}
	}
	own := ownGroups(string(list))
	switch magic(root) {
	case unix.CGROUP2_SUPER_MAGIC:
		c := Cgroups{Mode: CgroupV2, Own: own[""]}
		// At the top of the tree groups are made at the top; a delegated
		// process makes them in its own.
		if canMake(root) || canMake(filepath.Join(root, c.Own)) {
			c.Controllers = controllersV2(root, c.Own)
		}
		return c
	case unix.TMPFS_MAGIC:
		return cgroupsV1(root, own)
	default:
		return Cgroups{Mode: CgroupNone}
	}
}

func cgroupsV1(root string, own map[string]string) Cgroups {
	c := Cgroups{Mode: CgroupV1}
	if magic(filepath.Join(root, "unified")) == unix.CGROUP2_SUPER_MAGIC {
		c.Mode = CgroupHybrid
	}
	for name := range own {
		if name == "" || strings.HasPrefix(name, "name=") {
			continue
		}
		if dir := filepath.Join(root, name); magic(dir) == unix.CGROUP_SUPER_MAGIC && canMake(dir) {
			c.Controllers = append(c.Controllers, name)
		}
	}
	slices.Sort(c.Controllers)
	if len(c.Controllers) > 0 {
		c.Own = own[c.Controllers[0]]
	}
	return c
}

// controllersV2 returns the controllers that may be given to groups: those of
// the top if groups can be made there, else those of our own.
func controllersV2(root, own string) []string {
	dir := root
	if !canMake(root) {
		dir = filepath.Join(root, own)
	}
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return nil
	}
	names := strings.Fields(string(b))
	slices.Sort(names)
	return names
}

// ownGroups reads the list of a process's control groups: the path of its group
// for each controller, that of v2 under "".
func ownGroups(list string) map[string]string {
	own := make(map[string]string)
	for line := range strings.Lines(list) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for name := range strings.SplitSeq(parts[1], ",") {
			own[name] = parts[2]
		}
	}
	return own
}

// canMake says whether a control group can be made in dir, by making one.
func canMake(dir string) bool {
	probe := filepath.Join(dir, "outlet-probe-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(probe, 0o755); err != nil {
		return false
	}
	return os.Remove(probe) == nil
}

// magic returns the type of the filesystem at path, 0 if there is none.
func magic(path string) int64 {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil {
		return 0
	}
	return int64(st.Type)
}
