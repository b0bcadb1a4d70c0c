package outlet

import "encoding/json"

// LoadOptions are the optional parts of loading plugins from an archive.
type LoadOptions struct {
	// Alias is the local name, in the place of the one in the archive, which
	// must then hold one plugin.
	Alias string
	// Platform is the one to pick from an index, "linux/arm64"; "" is the
	// host's.
	Platform string
	// Granted are the privileges their user grants to the plugins, by the digest
	// of a plugin's manifest: exactly those it asks for. A plugin that asks for
	// none need not be in it.
	Granted map[string]Privileges
	// GrantAll grants whatever is asked for; Granted is not looked at.
	GrantAll bool
}

// Loaded is what loading an archive made.
type Loaded struct {
	Plugins  []Plugin
	Warnings []string
}

// ImageOptions say how an ordinary image becomes a plugin.
type ImageOptions struct {
	CreateOptions
	// Config is config.json as it was written. What it leaves out of entry
	// point, environment and working directory is the image's.
	Config json.RawMessage
	// Ref chooses an image of an archive that holds several, or is the reference
	// of an image in a registry if there is no archive.
	Ref string
	// Platform is the one to pick from an index; "" is the host's.
	Platform string
	// Remote says how the registry is asked; its Platform is not looked at.
	Remote RemoteOptions
}
