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
		return cgroupsV2(root, own[""])
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
		c.Base = "/"
	}
	return c
}

func cgroupsV2(root, own string) Cgroups {
	c := Cgroups{Mode: CgroupV2}
	for _, base := range []string{"/", own} {
		if !canMake(filepath.Join(root, base)) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(root, base, "cgroup.controllers"))
		if err != nil {
			continue
		}
		c.Base, c.Controllers = base, strings.Fields(string(b))
		slices.Sort(c.Controllers)
		break
	}
	return c
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
	return int64(st.Type) //nolint:unconvert // an int32 on some machines
}
