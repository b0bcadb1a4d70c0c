package manager

import (
	"path/filepath"

	"github.com/outletd/outlet"
)

// paths are the places of one plugin on the host (docs/format.md).
type paths struct {
	bundle     string // the runtime's bundle, with the mounted root filesystem
	rootfs     string // where the root filesystem is mounted, in bundle
	sockets    string // bound to outlet.PluginSocketDir in the plugin
	propagated string // the host side of the propagated mount
	plugin     string // the parent of propagated and the logs
}

// Sockets have paths of at most maxSocketPath bytes; under the default exec
// root that leaves 80 for the name. Under a deeper one the name may be as long
// all the same, and is dialled through a descriptor of its directory.
const (
	maxSocketPath = 107
	minSocketName = 80
)

func (m *Manager) bundlesDir() string { return filepath.Join(m.cfg.ExecRoot, "b") }
func (m *Manager) socketsDir() string { return filepath.Join(m.cfg.ExecRoot, "p") }

func (m *Manager) maxSocketName() int {
	inPlugin := maxSocketPath - len(outlet.PluginSocketDir+"/")
	onHost := maxSocketPath - len(m.socketsDir()+"/") - len(shortID(zeroID)+"/")
	return min(inPlugin, max(onHost, minSocketName))
}

const zeroID = "0000000000000000000000000000000000000000000000000000000000000000"

func (m *Manager) pathsOf(id string) paths {
	bundle := filepath.Join(m.bundlesDir(), shortID(id))
	plugin := m.store.PluginDir(id)
	return paths{
		bundle:     bundle,
		rootfs:     filepath.Join(bundle, "rootfs"),
		sockets:    filepath.Join(m.socketsDir(), shortID(id)),
		propagated: filepath.Join(plugin, "propagated-mount"),
		plugin:     plugin,
	}
}

func (p paths) socket(name string) string {
	if name == "" {
		return ""
	}
	return filepath.Join(p.sockets, name)
}

func (p paths) logs() string { return filepath.Join(p.plugin, "log") }
