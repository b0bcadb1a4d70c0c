package volumes

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Record is what is kept of a volume: of one that was created or given labels
// through this daemon, and of every one that is mounted through it.
type Record struct {
	Name   string
	Driver string // the plugin's name, with its tag if it is a managed one
	// Created says that the volume was created through this daemon, at
	// CreatedAt and with Options. One that was there before is never Created.
	Created   bool              `json:",omitempty"`
	CreatedAt time.Time         `json:",omitzero"`
	Options   map[string]string `json:",omitempty"`
	Labels    map[string]string `json:",omitempty"`
	Mounts    []Mount           `json:",omitempty"`
}

// Mount is one entry in the journal of mounts.
type Mount struct {
	ID    string
	Since time.Time
	// Mountpoint is where the volume is on the host.
	Mountpoint string `json:",omitempty"`
	// Plugin is the id of the managed plugin that made the mount, "" for a v1
	// plugin. What another plugin of the name has is not this mount.
	Plugin string `json:",omitempty"`
	// Instance is the run of the plugin's process that made the mount
	// ([Driver.Instance]).
	Instance string `json:",omitempty"`
	// Pending says that the plugin may have the mount, but nobody counts on it:
	// the plugin was asked for it and did not answer yet (found on disk, the
	// daemon died meanwhile), or could not be told that it was given back. The
	// plugin is told when it is ready.
	Pending bool `json:",omitempty"`
}

// gone says whether the run of the plugin that made the mount has ended, d being
// the present one. The plugin may know of it all the same: many keep their
// mounts on disk.
func (m Mount) gone(d Driver) bool {
	return m.Instance != "" && d.Instance != "" && m.Instance != d.Instance
}

// lost says whether the mount went with the plugin that made it, which d has
// taken the name of.
func (m Mount) lost(d Driver) bool { return m.Plugin != "" && m.Plugin != d.ID }

// Clone returns a copy that shares nothing with r.
func (r Record) Clone() Record {
	r.Options, r.Labels, r.Mounts = maps.Clone(r.Options), maps.Clone(r.Labels), slices.Clone(r.Mounts)
	return r
}

// mount returns the index of the mount with the id, or -1.
func (r Record) mount(id string) int {
	return slices.IndexFunc(r.Mounts, func(m Mount) bool { return m.ID == id })
}

// active are the mounts that somebody counts on.
func (r Record) active() []Mount {
	var l []Mount
	for _, m := range r.Mounts {
		if !m.Pending {
			l = append(l, m)
		}
	}
	return l
}

// held are the ids of the managed plugins that made active mounts, and since when
// there is one.
func (r Record) held() map[string]time.Time {
	held := make(map[string]time.Time)
	for _, m := range r.active() {
		if since, ok := held[m.Plugin]; m.Plugin != "" && (!ok || m.Since.Before(since)) {
			held[m.Plugin] = m.Since
		}
	}
	return held
}

// ids are those of the active mounts.
func (r Record) ids() string {
	var ids []string
	for _, m := range r.active() {
		ids = append(ids, m.ID)
	}
	return strings.Join(ids, ", ")
}

// leave takes the mounts out of r that were lost to d, and returns them.
func (r *Record) leave(d Driver) (lost []Mount) {
	r.Mounts = slices.DeleteFunc(r.Mounts, func(m Mount) bool {
		if m.lost(d) {
			lost = append(lost, m)
		}
		return m.lost(d)
	})
	return lost
}

// Store keeps records on disk. What was saved or deleted without an error is so
// after a crash of the machine, too.
type Store interface {
	// All returns all records. With an [*UnreadableError] it returns those
	// that can be read.
	All(ctx context.Context) ([]Record, error)
	// Save adds the record, or replaces that of the name.
	Save(ctx context.Context, r Record) error
	// Delete removes the record of the name, if there is one.
	Delete(ctx context.Context, name string) error
}

// UnreadableError says that some records cannot be read.
type UnreadableError struct {
	Names []string
	Err   error // of the first
}

// Error names the records.
func (e *UnreadableError) Error() string {
	return fmt.Sprintf("unreadable records %q: %v", e.Names, e.Err)
}

// Unwrap returns the error of the first record.
func (e *UnreadableError) Unwrap() error { return e.Err }
