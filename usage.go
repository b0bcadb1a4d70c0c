package outlet

// DiskUsage is what a daemon keeps on disk.
type DiskUsage struct {
	Plugins []PluginUsage // by name
	// Blobs are manifests, configs and layers as they were sent, Layers are the
	// root filesystems unpacked, Downloads those that broke off.
	Blobs, Layers, Downloads StoreUsage
}

// PluginUsage is what one plugin has on disk, in bytes.
type PluginUsage struct {
	ID, Name string
	// Unique is what goes with the plugin, Shared what other plugins have too:
	// blobs and layers.
	Unique, Shared int64
	// Written is what the plugin wrote and printed, without what is mounted.
	Written int64
}

// StoreUsage is one kind of things on disk.
type StoreUsage struct {
	Count int
	Bytes int64
	// Reclaimable is how many of the bytes nothing needs.
	Reclaimable int64
}

// Pruned is what a removal of all that nothing needs removed.
type Pruned struct {
	Blobs, Layers, Downloads int
	Bytes                    int64
}
