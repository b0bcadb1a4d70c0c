// Package store is what Outlet keeps on disk: the records of managed plugins,
// their blobs, their layers unpacked, and their writable root filesystems. One
// database file holds the records and containerd's metadata of blobs, snapshots
// and leases, so that one transaction moves a plugin from one version to the
// next. Every path and field is described in docs/format.md.
//
// It is not a cache of what runs: it knows the wish of a user (enabled or not),
// never a process. It resolves no names and checks no rules: that is the
// manager's part. It fetches nothing: what comes from a registry is written
// into [Store.Content] under a lease of whoever fetches.
package store
