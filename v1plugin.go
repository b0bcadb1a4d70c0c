package outlet

// V1Plugin is a plugin that somebody else runs and that a file on the host makes
// known, as discovery shows it.
type V1Plugin struct {
	// Name is the name of the file without its extension.
	Name string
	// Address is where the plugin is reached: unix://, npipe://, tcp://, http://
	// or https://.
	Address string
	// Origin is the file that makes the plugin known.
	Origin string
	// Capabilities are the subsystems that the plugin says it implements, for
	// example VolumeDriver; empty if it could not be asked.
	Capabilities []string
	// Reachable says whether the plugin answered.
	Reachable bool
	// Error says why it did not.
	Error string `json:",omitempty"`
}

// V1Plugins is what discovery found.
type V1Plugins struct {
	// Plugins are in order of their names.
	Plugins []V1Plugin
	// Warnings are about files and directories that could not be used.
	Warnings []string
}
