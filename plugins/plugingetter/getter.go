// Package plugingetter declares how a program looks plugins up without knowing
// whether somebody else runs them (v1) or a manager does. It stands in for
// Moby's package of the same name: interfaces and nothing that implements them.
package plugingetter

import (
	"net"
	"time"

	"github.com/outletd/outlet/plugins"
)

// Modes of PluginGetter.Get: what happens to the count of a managed plugin's
// users. v1 plugins have no count.
const (
	// Lookup leaves the count as it is.
	Lookup = 0
	// Acquire adds one user.
	Acquire = 1
	// Release takes one user away.
	Release = -1
)

// CompatPlugin is a plugin of either kind.
type CompatPlugin interface {
	// Name is the name that the plugin is looked up with.
	Name() string
	// ScopedPath turns a path as the plugin sees it into one of the host.
	ScopedPath(string) string
	// IsV1 says whether somebody else runs the plugin.
	IsV1() bool
	PluginWithV1Client
}

// PluginWithV1Client is a plugin that brings its client with it.
type PluginWithV1Client interface {
	// Client returns the client to call the plugin with.
	Client() *plugins.Client
}

// PluginAddr is a plugin that tells where it is, for programs that bring their
// own client.
type PluginAddr interface {
	// Addr is where the plugin listens.
	Addr() net.Addr
	// Timeout is how long a call may take; zero means no limit.
	Timeout() time.Duration
	// Protocol is what the plugin speaks, for example
	// plugins.ProtocolSchemeHTTPV1.
	Protocol() string
}

// CountedPlugin is a plugin whose users are counted.
type CountedPlugin interface {
	// Acquire adds one user.
	Acquire()
	// Release takes one user away.
	Release()
	CompatPlugin
}

// PluginGetter looks plugins up.
type PluginGetter interface {
	// Get returns the plugin of the name that has the capability, and counts as
	// mode says.
	Get(name, capability string, mode int) (CompatPlugin, error)
	// GetAllByCap returns all plugins that have the capability.
	GetAllByCap(capability string) ([]CompatPlugin, error)
	// GetAllManagedPluginsByCap is GetAllByCap without v1 plugins.
	GetAllManagedPluginsByCap(capability string) []CompatPlugin
	// Handle has callback called for each plugin that has the capability when
	// it becomes active.
	Handle(capability string, callback func(string, *plugins.Client))
}
