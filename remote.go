package outlet

import "log/slog"

// RegistryAuth are credentials for a registry, as Docker's clients send them.
// The zero value is nobody. Its JSON form is that of the X-Registry-Auth header.
type RegistryAuth struct {
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	// Auth is "username:password" in base64, used if Username is empty.
	Auth          string `json:"auth,omitempty"`
	ServerAddress string `json:"serveraddress,omitempty"`
	// IdentityToken takes the place of the password at a token server.
	IdentityToken string `json:"identitytoken,omitempty"`
	// RegistryToken is sent to the registry as it is.
	RegistryToken string `json:"registrytoken,omitempty"`
}

// LogValue keeps secrets out of logs.
func (a RegistryAuth) LogValue() slog.Value {
	return slog.GroupValue(slog.String("server", a.ServerAddress), slog.Bool("anonymous", a == RegistryAuth{}))
}

// RemoteOptions say how a registry is asked.
type RemoteOptions struct {
	// Auth is given to the registry of the reference, and to nobody else.
	Auth RegistryAuth
	// Header (an http.Header) is sent with each request, besides what Outlet
	// sends itself.
	Header map[string][]string
	// Platform is the one to pick from an index, "linux/arm64"; "" is the
	// host's. Of a push it is the one that the plugin is for in the index that
	// its tag is to name; "" is no index.
	Platform string
}

// RemotePlugin is a plugin in a registry.
type RemotePlugin struct {
	// Reference is complete: "docker.io/foo/bar:latest".
	Reference string
	// Digest is that of the manifest for the platform. Pulling it by this digest
	// gets exactly what is described here.
	Digest string
	// Index is the digest of what the reference names, where that is an index.
	Index      string `json:",omitempty"`
	Config     Config
	Privileges Privileges
	// Size is that of the layers as they are downloaded, in bytes.
	Size int64
}

// PullOptions are the optional parts of installing from a registry.
type PullOptions struct {
	RemoteOptions
	CreateOptions
	// Name is the local name; "" is what the reference gives.
	Name string
	// Granted are the privileges its user grants: exactly those it asks for.
	Granted Privileges
	// Digest, if not "", is the manifest that was shown to the user
	// ([RemotePlugin.Digest]); if the reference names another one by now, that
	// is refused.
	Digest string
}

// UpgradeOptions are the optional parts of an upgrade.
type UpgradeOptions struct {
	RemoteOptions
	Granted Privileges
	Digest  string // as in [PullOptions]
	// Running also upgrades a plugin that is enabled and held by nobody: the new
	// version has to become ready, or the old one is started again.
	Running bool
	// WhenIdle waits until nobody holds it, instead of refusing.
	WhenIdle bool
}

// Progress is one line about a transfer.
type Progress struct {
	// ID is what Status is about: the short digest of a blob, a tag, or "".
	ID string
	// Status is what happens, in the words of Docker's clients.
	Status string
	// Current and Total are bytes; 0 is not known, or of no interest.
	Current, Total int64
	// Message says that it is a remark, not the state of a bar.
	Message bool
	// Pushed is the result of a push, on its last line.
	Pushed *Pushed
}

// Pushed is what a push made.
type Pushed struct {
	Tag    string
	Digest string
	Size   int64 // of the manifest, in bytes
}
