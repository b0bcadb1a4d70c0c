package outlet

// Config is a managed plugin's config.json: what its author declares. It never
// changes after the plugin was created; what a user changes is in [Settings].
//
// The JSON form is that of the Engine API (docs/spec/managed-plugins.md §2.1).
// Keys are matched case-insensitively when decoding.
type Config struct {
	Args            Args
	Description     string
	Documentation   string
	Entrypoint      []string
	Env             []Env
	Interface       Interface
	IpcHost         bool
	Linux           Linux
	Mounts          []Mount
	Network         Network
	PidHost         bool
	PropagatedMount string
	User            User
	WorkDir         string
	Rootfs          *Rootfs `json:"rootfs,omitempty"`
}

// Args declares the arguments that follow the entry point.
type Args struct {
	Description string
	Name        string
	Settable    []string
	Value       []string
}

// Env declares one environment variable. A nil Value means that it has no
// default and is not set at all.
type Env struct {
	Description string
	Name        string
	Settable    []string
	Value       *string
}

// Interface says what the plugin serves and where.
type Interface struct {
	// ProtocolScheme is empty for Docker's JSON over HTTP; any other value
	// means that the consumer speaks a protocol of its own.
	ProtocolScheme string `json:",omitempty"`
	// Socket is a file name inside /run/docker/plugins of the plugin.
	Socket string
	Types  []Capability
}

// ProtocolV1 is the protocol an empty [Interface.ProtocolScheme] stands for.
const ProtocolV1 = "moby.plugins.http/v1"

// Linux holds what only means something on Linux.
type Linux struct {
	AllowAllDevices bool
	Capabilities    []string
	Devices         []Device
}

// Device declares a device node of the host.
type Device struct {
	Description string
	Name        string
	Path        *string
	Settable    []string
}

// Mount declares a mount into the plugin's root filesystem.
type Mount struct {
	Description string
	Destination string
	Name        string
	Options     []string
	Settable    []string
	Source      *string
	Type        string
}

// Network says which network the plugin sees: "host", or (any other value) a
// network namespace of its own with nothing but the loopback interface.
type Network struct {
	Type string
}

// User is the user the plugin's process runs as. Docker ignores it.
type User struct {
	UID uint32 `json:",omitempty"`
	GID uint32 `json:",omitempty"`
}

// Rootfs lists the uncompressed digests of the layers; written by whatever
// built the plugin, never by its author.
type Rootfs struct {
	Type    string   `json:"type,omitempty"`
	DiffIDs []string `json:"diff_ids,omitempty"`
}

// Settings are the values a plugin runs with: the defaults of its [Config],
// changed by its user.
type Settings struct {
	Args    []string
	Devices []Device
	Env     []string
	Mounts  []Mount
}
