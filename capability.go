package outlet

// Capability is a plugin type of the form prefix.capability/version, for
// example docker.volumedriver/1.0. Its JSON form is that string.
type Capability struct {
	Prefix     string
	Capability string
	Version    string
}
