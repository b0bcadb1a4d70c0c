package store

import (
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet"
)

// recordVersion is the version of a record's JSON form. Fields are added
// without a new version; a reader that finds a higher one calls the record
// damaged rather than guess.
const recordVersion = 1

// Record is what is kept of one managed plugin. What the plugin is doing is not
// in it: that is observed, never stored. Its JSON form is in docs/format.md.
type Record struct {
	// Version is the version of this form; set by the store.
	Version int
	ID      string // 64 lower-case hexadecimal digits
	Name    string // familiar form with a tag; unique
	// Reference is where the plugin came from (outlet.Plugin.PluginReference).
	Reference string
	// Config is the plugin's config, decoded; ConfigDigest is the blob it was
	// decoded from, byte for byte.
	Config       outlet.Config
	ConfigDigest digest.Digest
	// Manifest is nil for a created plugin until its first push.
	Manifest *ocispec.Descriptor `json:",omitempty"`
	// Layers are in the order they are applied, the lowest first.
	Layers   []Layer
	Settings outlet.Settings
	// Enabled is what the user wishes.
	Enabled bool
	// Timeout bounds each call to the plugin; 0 is no limit.
	Timeout time.Duration
	// StartTimeout bounds the wait for readiness; 0 is the manager's default.
	StartTimeout time.Duration
	// Generation counts the versions of the plugin's content: 1 when it was
	// created, one more with each upgrade.
	Generation int
	ServiceID  string `json:",omitempty"`
	// Granted are the privileges its user granted, and GrantedFor the config
	// they were granted for. A created plugin has none.
	Granted    outlet.Privileges
	GrantedFor digest.Digest `json:",omitempty"`
	CreatedAt  time.Time
	// Rootfs is the key of the plugin's writable root filesystem
	// ([Store.RootfsMounts]); set by [Store.Add].
	Rootfs string
}

// Layer is one layer of a plugin: a blob and the digest of what it holds
// uncompressed.
type Layer struct {
	Blob   ocispec.Descriptor
	DiffID digest.Digest
}

// Damaged is a record that cannot be read. Its plugin can be removed with
// [Store.Delete], nothing else.
type Damaged struct {
	ID string
	// Name is known from the index of names; "" if that has none.
	Name string
	Err  error
}

// Clone returns a copy that shares nothing with r.
func (r Record) Clone() Record {
	r.Config, r.Settings, r.Granted = r.Config.Clone(), r.Settings.Clone(), r.Granted.Clone()
	if r.Manifest != nil {
		m := cloneDescriptor(*r.Manifest)
		r.Manifest = &m
	}
	r.Layers = slices.Clone(r.Layers)
	for i := range r.Layers {
		r.Layers[i].Blob = cloneDescriptor(r.Layers[i].Blob)
	}
	return r
}

func cloneDescriptor(d ocispec.Descriptor) ocispec.Descriptor {
	d.URLs, d.Data, d.Annotations = slices.Clone(d.URLs), slices.Clone(d.Data), maps.Clone(d.Annotations)
	if d.Platform != nil {
		p := *d.Platform
		p.OSFeatures = slices.Clone(p.OSFeatures)
		d.Platform = &p
	}
	return d
}
