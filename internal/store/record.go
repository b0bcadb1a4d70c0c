package store

import (
	"maps"
	"slices"
	"time"
	"unicode/utf8"

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
	// Previous is what an enabled plugin was upgraded from, until the new version
	// has been ready once; else nil. It is held as the rest is.
	Previous *Previous `json:",omitempty"`
	// Undone says why the last upgrade was undone; "" if it was not.
	Undone string `json:",omitempty"`
}

// Previous is what of a [Record] an upgrade replaces; the fields are those of
// the record.
type Previous struct {
	Reference    string
	Config       outlet.Config
	ConfigDigest digest.Digest
	Manifest     *ocispec.Descriptor `json:",omitempty"`
	Layers       []Layer
	Settings     outlet.Settings
	Granted      outlet.Privileges
	GrantedFor   digest.Digest `json:",omitempty"`
	Rootfs       string
}

// KeepPrevious remembers what an upgrade is about to replace, so that [Record.GoBack]
// brings it back. A version that was never ready is not remembered: the one
// before it stays.
func (r *Record) KeepPrevious() {
	if r.Previous != nil {
		return
	}
	old := r.Clone()
	r.Previous = &Previous{
		Reference: old.Reference, Config: old.Config, ConfigDigest: old.ConfigDigest,
		Manifest: old.Manifest, Layers: old.Layers, Settings: old.Settings,
		Granted: old.Granted, GrantedFor: old.GrantedFor, Rootfs: old.Rootfs,
	}
}

// GoBack undoes an upgrade whose version was never ready, and says why. Without
// one it changes nothing. The generation stays: none is used twice.
func (r *Record) GoBack(why string) {
	p := r.Previous
	if p == nil {
		return
	}
	r.Reference, r.Config, r.ConfigDigest = p.Reference, p.Config, p.ConfigDigest
	r.Manifest, r.Layers, r.Settings = p.Manifest, p.Layers, p.Settings
	r.Granted, r.GrantedFor, r.Rootfs = p.Granted, p.GrantedFor, p.Rootfs
	r.Previous, r.Undone = nil, cut(why, maxUndone)
}

// maxUndone is how many bytes of [Record.Undone] are kept.
const maxUndone = 4 << 10

// cut is the beginning of a text, whole characters of at most n bytes.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	const mark = "…"
	n -= len(mark)
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + mark
}

// withPrevious is the record as it is and, if there is one, as it was before the
// upgrade that may have to be undone.
func (r *Record) withPrevious() []Record {
	all := []Record{*r}
	if r.Previous != nil {
		old := r.Clone()
		old.GoBack("")
		all = append(all, old)
	}
	return all
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
	r.Layers = cloneLayers(r.Layers)
	if r.Previous != nil {
		p := *r.Previous
		p.Config, p.Settings, p.Granted = p.Config.Clone(), p.Settings.Clone(), p.Granted.Clone()
		if p.Manifest != nil {
			m := cloneDescriptor(*p.Manifest)
			p.Manifest = &m
		}
		p.Layers = cloneLayers(p.Layers)
		r.Previous = &p
	}
	return r
}

func cloneLayers(l []Layer) []Layer {
	l = slices.Clone(l)
	for i := range l {
		l[i].Blob = cloneDescriptor(l[i].Blob)
	}
	return l
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
