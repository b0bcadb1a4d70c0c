package outlet

import (
	"io"
	"time"
)

// CreateOptions are the optional parts of creating or installing a plugin.
type CreateOptions struct {
	// ServiceID marks the plugin as belonging to a Swarm service
	// (docs/spec/managed-plugins.md §13).
	ServiceID string
	// Env overrides defaults of the config's environment, each "NAME=value".
	// Entries without "=" are ignored, unknown names are added.
	Env []string
}

// EnableOptions are the optional parts of enabling a plugin.
type EnableOptions struct {
	// Timeout bounds each later call to the plugin; 0 is no limit. It does not
	// bound the wait for the plugin to become ready: see StartTimeout.
	Timeout time.Duration
	// StartTimeout bounds the wait until the plugin's socket accepts; 0 takes
	// the manager's default.
	StartTimeout time.Duration
}

// SetOptions change a plugin's settings. All of it is applied, or nothing.
type SetOptions struct {
	// Set are arguments of the grammar name[.field][=value]
	// (docs/spec/managed-plugins.md §3.2), applied in order.
	Set []string
	// Args, if not nil, replaces the arguments as they are, without splitting.
	Args []string
	// Unset are names whose settings go back to the config's default.
	Unset []string
}

// ListFilter selects plugins. Its zero value selects all.
type ListFilter struct {
	// Enabled, if not nil, selects by [Plugin.Enabled].
	Enabled *bool
	// Capabilities are names or regular expressions compared with the
	// capability part of each type; a plugin is selected if one of them matches
	// one of its types.
	Capabilities []string
}

// LogOptions select what of a plugin's output is read.
type LogOptions struct {
	// Tail is the number of last lines; negative is all.
	Tail int
	// Since and Until bound the time of the lines; zero is no bound.
	Since, Until time.Time
	// Follow goes on with the lines to come until the context ends.
	Follow bool
}

// LogEntry is one line a plugin printed.
type LogEntry struct {
	// Stream is "stdout", "stderr", or "outlet" for what the manager says of
	// the plugin (started, ended, restarted, lines dropped).
	Stream string `json:"stream"`
	// Time is when the line was picked up.
	Time time.Time `json:"time"`
	// Line has no line end. Bytes that are not UTF-8 are kept as they are in
	// memory and on disk; JSON replaces them.
	Line string `json:"line"`
	// Partial says that the line was longer than a line may be and goes on in
	// the next entry.
	Partial bool `json:"partial,omitempty"`
}

// Process is a further process in a running plugin.
type Process struct {
	Args []string
	Env  []string // added to the plugin's own
	Cwd  string   // "" is the plugin's
	// Terminal gives the process a terminal: Stdin and Stdout are its two
	// sides, Stderr is not used, and Resize sets its size.
	Terminal bool
	Stdin    io.Reader
	Stdout   io.Writer
	Stderr   io.Writer
	Resize   <-chan WindowSize
}

// WindowSize is the size of a terminal in characters.
type WindowSize struct{ Rows, Columns uint16 }

// Message is an event of the daemon as the Engine API shows it
// (docs/spec/engine-api.md §7.4).
type Message struct {
	Type   string // "plugin", "volume", "daemon"
	Action string
	Actor  Actor
	Scope  string `json:"scope,omitempty"` // "local"
	// Time and TimeNano are the same instant in seconds and nanoseconds since
	// 1970.
	Time     int64 `json:"time,omitempty"`
	TimeNano int64 `json:"timeNano,omitempty"`
}

// Actor is what a [Message] is about.
type Actor struct {
	ID         string
	Attributes map[string]string
}

// Volume is a volume of a volume plugin as the Engine API shows it.
type Volume struct {
	Name   string
	Driver string
	// Mountpoint is a path of the host, "" while the driver tells none.
	Mountpoint string
	CreatedAt  string         `json:",omitempty"` // RFC 3339
	Status     map[string]any `json:",omitempty"` // what the driver says of it
	Labels     map[string]string
	Scope      string // "local" or "global"
	Options    map[string]string
	// Outlet is our own; Docker's clients ignore it.
	Outlet *VolumeStatus `json:",omitempty"`
}

// VolumeStatus is what Outlet knows of a volume.
type VolumeStatus struct {
	// Created says that the volume was created through this daemon.
	Created bool
	// Mounts are the ids the volume is mounted under.
	Mounts []VolumeMount
}

// VolumeMount is one mount of a volume.
type VolumeMount struct {
	ID    string
	Since time.Time
}

// VolumeCreate are the parts of a volume to be created.
type VolumeCreate struct {
	Name       string
	Driver     string
	DriverOpts map[string]string
	Labels     map[string]string
}

// VolumeFilter selects volumes. Its zero value selects all. Values of one field
// are alternatives, fields are joined by and.
type VolumeFilter struct {
	Names    []string // part of the name
	Drivers  []string // the whole name
	Labels   []string // "key" or "key=value"
	Dangling *bool    // not mounted
}

// VolumeList is the answer to listing volumes: those found, and what went wrong
// with drivers that could not be asked.
type VolumeList struct {
	Volumes  []Volume
	Warnings []string
}
