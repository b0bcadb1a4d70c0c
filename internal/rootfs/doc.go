// Package rootfs turns archives into root filesystems, and mounts and prepares
// them: it splits the archive a plugin is created from, applies layers in their
// order, and does all of it on names that strangers chose. Nothing it is given
// can write outside the directory it was told.
//
// It is not a store: it keeps no records and no names, and it removes nothing
// that it did not make itself. The order and the durability of what it writes
// are its caller's.
package rootfs
