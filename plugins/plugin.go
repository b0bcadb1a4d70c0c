package plugins

import (
	"slices"

	"github.com/outletd/outlet/plugins/tlsconfig"
)

// ProtocolSchemeHTTPV1 is the name of the protocol that plugins of this package
// speak.
const ProtocolSchemeHTTPV1 = "moby.plugins.http/v1"

// Manifest is what a plugin answers when it is activated.
type Manifest struct {
	// Implements are the subsystems that the plugin serves, for example
	// VolumeDriver.
	Implements []string
}

// Plugin is a v1 plugin. What Get and GetAll return is active, with a client
// and a manifest, and does not change any more: when the plugin is activated
// again there is a new value. It is shared, so its fields are only to be read.
type Plugin struct {
	// Addr is the plugin's address as its definition has it.
	Addr string
	// TLSConfig is what the definition says about TLS, or nil.
	TLSConfig *tlsconfig.Options
	// Manifest is what the plugin serves; nil before activation.
	Manifest *Manifest `json:"-"`

	name   string
	origin string
	client *Client
}

// NewLocalPlugin returns a plugin that is not active and that no registry
// knows.
func NewLocalPlugin(name, addr string) *Plugin {
	return &Plugin{name: name, Addr: addr}
}

// Name is the plugin's name.
func (p *Plugin) Name() string { return p.name }

// Client is the client to call the plugin with, or nil before activation.
func (p *Plugin) Client() *Client { return p.client }

// Protocol is ProtocolSchemeHTTPV1.
func (p *Plugin) Protocol() string { return ProtocolSchemeHTTPV1 }

// IsV1 is true: plugins of this package are run by somebody else.
func (p *Plugin) IsV1() bool { return true }

// ScopedPath is s: v1 plugins see the paths of the host.
func (p *Plugin) ScopedPath(s string) string { return s }

// Origin is the file that defines the plugin, or nothing if there is none.
func (p *Plugin) Origin() string { return p.origin }

// Implements says whether the plugin is active and serves the subsystem.
func (p *Plugin) Implements(subsystem string) bool {
	return p.Manifest != nil && slices.Contains(p.Manifest.Implements, subsystem)
}
