// Package volume calls volume plugins (manifest name VolumeDriver): typed
// methods over anything that can call, and the types on the wire, as
// docs/spec/capabilities.md §2 has them.
//
// It keeps no volumes, counts no mounts and translates no paths: what a plugin
// answers is passed on as the plugin sees it.
package volume

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/outletd/outlet/capability"
)

// Name is what a volume plugin has in its manifest; Type is the same in the
// configuration of a managed plugin.
const (
	Name = "VolumeDriver"
	Type = "docker.volumedriver/1.0"
)

// Methods, as they are called.
const (
	MethodCreate       = "VolumeDriver.Create"
	MethodGet          = "VolumeDriver.Get"
	MethodList         = "VolumeDriver.List"
	MethodRemove       = "VolumeDriver.Remove"
	MethodPath         = "VolumeDriver.Path"
	MethodMount        = "VolumeDriver.Mount"
	MethodUnmount      = "VolumeDriver.Unmount"
	MethodCapabilities = "VolumeDriver.Capabilities"
)

// Replayable says whether a method may be sent again although the plugin may
// have got it: those that change nothing.
func Replayable(method string) bool {
	switch method {
	case MethodGet, MethodList, MethodPath, MethodCapabilities:
		return true
	}
	return false
}

// Scope says for which machines creating a volume once is enough.
type Scope string

const (
	// ScopeLocal is a volume of one machine.
	ScopeLocal Scope = "local"
	// ScopeGlobal is a volume that every machine of a cluster sees.
	ScopeGlobal Scope = "global"
)

// Volume is a volume as its plugin describes it.
type Volume struct {
	// Name is the volume's.
	Name string
	// Mountpoint is where it is mounted, in the file system that the plugin
	// sees; empty where it is not, or the plugin does not say.
	Mountpoint string `json:",omitempty"`
	// CreatedAt is when it was made; the zero time means unknown.
	CreatedAt Time `json:",omitzero"`
	// Status is whatever the plugin wants people to see.
	Status map[string]any `json:",omitempty"`
}

// Time is a time on the wire. Plugins send empty strings and worse for a time
// they do not know, and one bad time is no reason to lose a whole answer: what
// cannot be read is the zero time.
type Time struct{ time.Time }

// UnmarshalJSON reads RFC 3339, and everything else as the zero time.
func (t *Time) UnmarshalJSON(text []byte) error {
	t.Time = time.Time{}
	var s string
	if json.Unmarshal(text, &s) != nil {
		return nil //nolint:nilerr // unknown, as said
	}
	if parsed, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(s)); err == nil {
		t.Time = parsed
	}
	return nil
}

// MarshalJSON writes RFC 3339, and an empty string for the zero time.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte(`""`), nil
	}
	return t.Time.MarshalJSON()
}

// CreateRequest asks for a volume.
type CreateRequest struct {
	Name string
	// Opts are for the plugin alone to understand.
	Opts map[string]string
}

// NameRequest is the request of Get, Remove and Path.
type NameRequest struct{ Name string }

// ListRequest is the request of List and Capabilities.
type ListRequest struct{}

// MountRequest is the request of Mount and Unmount.
type MountRequest struct {
	Name string
	// ID stands for one mount: it is the same in Mount and its Unmount.
	ID string
}

// Response is an answer that has nothing but a possible error.
type Response struct{ capability.Refusal }

// GetResponse is the answer to Get.
type GetResponse struct {
	// Volume is nil if there is none of the name.
	Volume *Volume
	capability.Refusal
}

// ListResponse is the answer to List.
type ListResponse struct {
	Volumes []*Volume
	capability.Refusal
}

// PathResponse is the answer to Path and to Mount.
type PathResponse struct {
	Mountpoint string
	capability.Refusal
}

// Capabilities is what a plugin says of itself.
type Capabilities struct {
	// Scope is local or global, in any case.
	Scope string
}

// CapabilitiesResponse is the answer to Capabilities.
type CapabilitiesResponse struct {
	Capabilities Capabilities
	capability.Refusal
}

// Default limits of calls.
const (
	// DefaultTimeout is for calls that only look something up, or undo.
	DefaultTimeout = time.Minute
	// DefaultLongTimeout is for Create and Mount.
	DefaultLongTimeout = 2 * time.Minute
)

// Timeouts bound calls, in addition to their contexts. Zero means the default,
// a negative value no limit.
type Timeouts struct {
	// Create, Mount default to DefaultLongTimeout.
	Create, Mount time.Duration
	// The others default to DefaultTimeout.
	Get, List, Remove, Path, Unmount, Capabilities time.Duration
}

// Client calls one volume plugin. It is safe for concurrent use if its Caller
// is, and has no state.
type Client struct {
	caller   capability.Caller
	timeouts Timeouts
}

// New returns a client that calls through c.
func New(c capability.Caller, t Timeouts) *Client {
	or := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	or(&t.Create, DefaultLongTimeout)
	or(&t.Mount, DefaultLongTimeout)
	for _, d := range []*time.Duration{&t.Get, &t.List, &t.Remove, &t.Path, &t.Unmount, &t.Capabilities} {
		or(d, DefaultTimeout)
	}
	return &Client{caller: c, timeouts: t}
}

// Create makes a volume. Plugins may put off all work until the first mount.
// Not replayable.
func (c *Client) Create(ctx context.Context, name string, opts map[string]string) error {
	return capability.Do(ctx, c.caller, c.timeouts.Create, MethodCreate, CreateRequest{name, opts}, new(Response))
}

// Get looks a volume up. It returns nil and no error if the plugin answers that
// there is no volume, be it with none or with status 404. Any other answer that
// is an error is a *capability.Error: plugins say "no such volume" in their own
// words, so the caller decides what it means. An error for which
// capability.IsAnswer is false says nothing about the volume.
func (c *Client) Get(ctx context.Context, name string) (*Volume, error) {
	var r GetResponse
	err := capability.Do(ctx, c.caller, c.timeouts.Get, MethodGet, NameRequest{name}, &r)
	if capability.IsNotImplemented(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return r.Volume, nil
}

// List returns the volumes that the plugin knows, without empty entries.
func (c *Client) List(ctx context.Context) ([]Volume, error) {
	var r ListResponse
	if err := capability.Do(ctx, c.caller, c.timeouts.List, MethodList, ListRequest{}, &r); err != nil {
		return nil, err
	}
	volumes := make([]Volume, 0, len(r.Volumes))
	for _, v := range r.Volumes {
		if v != nil && v.Name != "" {
			volumes = append(volumes, *v)
		}
	}
	return volumes, nil
}

// Remove removes a volume and what is in it. Not replayable.
func (c *Client) Remove(ctx context.Context, name string) error {
	return capability.Do(ctx, c.caller, c.timeouts.Remove, MethodRemove, NameRequest{name}, new(Response))
}

// Path returns where a volume is mounted, as the plugin sees it, or nothing.
func (c *Client) Path(ctx context.Context, name string) (string, error) {
	var r PathResponse
	err := capability.Do(ctx, c.caller, c.timeouts.Path, MethodPath, NameRequest{name}, &r)
	if err != nil {
		return "", err
	}
	return r.Mountpoint, nil
}

// Mount makes a volume usable and returns where it is, as the plugin sees it.
// Every Mount that succeeds is followed by one Unmount with the same id; a
// Mount that fails by none. Not replayable.
func (c *Client) Mount(ctx context.Context, name, id string) (string, error) {
	var r PathResponse
	err := capability.Do(ctx, c.caller, c.timeouts.Mount, MethodMount, MountRequest{name, id}, &r)
	if err != nil {
		return "", err
	}
	return r.Mountpoint, nil
}

// Unmount says that the mount of the id is not needed any more. Not replayable.
func (c *Client) Unmount(ctx context.Context, name, id string) error {
	return capability.Do(ctx, c.caller, c.timeouts.Unmount, MethodUnmount, MountRequest{name, id}, new(Response))
}

// Scope asks a plugin for its scope. Whatever the plugin answers that is not
// global, in any case of letters, means local, an error and an unknown method
// included; only a call without an answer is an error, and then, too, the scope
// is local.
func (c *Client) Scope(ctx context.Context) (Scope, error) {
	var r CapabilitiesResponse
	err := capability.Do(ctx, c.caller, c.timeouts.Capabilities, MethodCapabilities, ListRequest{}, &r)
	switch {
	case err != nil && !capability.IsAnswer(err):
		return ScopeLocal, err
	case err == nil && strings.EqualFold(r.Capabilities.Scope, string(ScopeGlobal)):
		return ScopeGlobal, nil
	}
	return ScopeLocal, nil
}
