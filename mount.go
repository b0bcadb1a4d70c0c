package outlet

import (
	"fmt"
	"slices"
	"strings"
)

// IsBind says whether the mount is one of a file or directory of the host: an
// option says so, or its type is bind or none at all.
func (m Mount) IsBind() bool {
	switch m.Type {
	case "bind", "none", "":
		return true
	}
	return slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
}

// NotSet says whether the mount is left out when the plugin is started: it is
// one of a host path, and that is empty because its user has not set it.
func (m Mount) NotSet() bool { return m.Source != nil && *m.Source == "" && m.IsBind() }

// Types of mounts, beside bind, that are taken for known. For disks and remote
// file systems options depend on their driver.
var (
	kernelTypes = []string{
		"", "none", "tmpfs", "ramfs", "proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts", "devtmpfs",
		"debugfs", "tracefs", "securityfs", "configfs", "bpf", "hugetlbfs", "pstore", "efivarfs",
		"fusectl", "binfmt_misc", "rpc_pipefs", "nfsd",
	}
	diskTypes = []string{
		"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "vfat", "exfat", "ntfs", "ntfs3", "iso9660", "squashfs",
		"erofs", "f2fs", "overlay", "fuse", "fuseblk", "nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph",
		"glusterfs", "gfs2", "ocfs2", "lustre", "beegfs", "autofs",
	}
)

// mountOptions are the words that are options of every mount.
var mountOptions = []string{
	"bind", "rbind", "ro", "rw", "readonly", "rro", "rrw", "suid", "nosuid", "dev", "nodev", "exec", "noexec",
	"rsuid", "rnosuid", "rdev", "rnodev", "rexec", "rnoexec",
	"sync", "async", "dirsync", "remount", "mand", "nomand", "atime", "noatime", "diratime", "nodiratime",
	"relatime", "norelatime", "strictatime", "nostrictatime", "lazytime", "nolazytime", "iversion", "noiversion",
	"silent", "loud", "acl", "noacl", "symfollow", "nosymfollow", "defaults", "tmpcopyup", "idmap", "ridmap",
	"private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable",
	"newinstance", "noswap",
}

func (v validator) mount(at string, m Mount) {
	v.noNUL(at+".Name", m.Name)
	if m.Source != nil {
		v.noNUL(at+".Source", *m.Source)
	}
	disk := slices.Contains(diskTypes, m.Type) || strings.HasPrefix(m.Type, "fuse.")
	if m.Type != "bind" && !disk && !slices.Contains(kernelTypes, m.Type) {
		v.warn(at+".Type", "%q is no known type: there are bind, tmpfs, none and file systems", m.Type)
		return
	}
	for i, o := range m.Options {
		opt := fmt.Sprintf("%s.Options[%d]", at, i)
		v.noNUL(opt, o)
		// A file system's own options are its driver's to know, and those of
		// the form name=value are always passed to it.
		if !disk && !strings.Contains(o, "=") && !slices.Contains(mountOptions, o) {
			v.warn(opt, "%q is no known option", o)
		}
	}
}
