package api

import (
	"context"
	"io"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/events"
)

// PluginBackend is what the plugin routes call. Names are as the caller typed
// them: a name, an id, or the start of an id. The classes of its errors decide
// the status (docs/spec/engine-api.md §3).
type PluginBackend interface {
	// List returns the plugins the filter selects, by name.
	List(ctx context.Context, f outlet.ListFilter) ([]outlet.Plugin, error)
	// Inspect returns one plugin.
	Inspect(ctx context.Context, name string) (outlet.Plugin, error)
	// Create makes a plugin of a tar stream and returns it with warnings. It
	// does not read from the stream any more when it has returned.
	Create(ctx context.Context, name string, tar io.Reader, o outlet.CreateOptions) (outlet.Plugin, []string, error)
	// Enable starts a plugin and returns once it is ready.
	Enable(ctx context.Context, name string, o outlet.EnableOptions) error
	// Disable stops a plugin; force, although it is in use.
	Disable(ctx context.Context, name string, force bool) error
	// Remove removes a plugin; force, although it is enabled or in use.
	Remove(ctx context.Context, name string, force bool) error
	// Set changes a plugin's settings.
	Set(ctx context.Context, name string, o outlet.SetOptions) error
	// Privileges returns what the plugin asks of the host.
	Privileges(ctx context.Context, name string) (outlet.Privileges, error)
	// Logs gives what the plugin printed to emit, line by line; an error of
	// emit ends it and is returned.
	Logs(ctx context.Context, name string, o outlet.LogOptions, emit func(outlet.LogEntry) error) error
	// Exec runs a further process in the plugin and returns once it has ended,
	// even if p.Stdin has not. When ctx ends it kills the process.
	Exec(ctx context.Context, name string, p outlet.Process) (exitCode int, err error)
	// Call sends one request to the plugin and returns its HTTP status and
	// answer.
	Call(ctx context.Context, name, method string, body []byte) (status int, answer []byte, err error)
	// Discover asks the v1 plugins of the host what they can do. One that does
	// not answer is no error.
	Discover(ctx context.Context) (outlet.V1Plugins, error)
}

// RegistryBackend is what the routes that need a registry call. Progress is told
// one call at a time, and not before everything was checked that can be without
// transferring much: until then an error becomes a status.
type RegistryBackend interface {
	// Remote looks at a plugin in a registry.
	Remote(ctx context.Context, reference string, o outlet.RemoteOptions) (outlet.RemotePlugin, error)
	// Pull installs a plugin.
	Pull(ctx context.Context, reference string, o outlet.PullOptions, progress func(outlet.Progress)) (outlet.Plugin, error)
	// Upgrade replaces a plugin's content; reference "" is where it came from.
	Upgrade(ctx context.Context, name, reference string, o outlet.UpgradeOptions, progress func(outlet.Progress)) (outlet.Plugin, error)
	// Push uploads a plugin to where its name says.
	Push(ctx context.Context, name string, o outlet.RemoteOptions, progress func(outlet.Progress)) (outlet.Pushed, error)
	// Login asks a registry whether it takes the credentials, and returns an
	// identity token if it gives one.
	Login(ctx context.Context, a outlet.RegistryAuth) (identityToken string, err error)
}

// Revisioner is implemented by a [PluginBackend] that knows whether anything
// changed. With it, answers to List and Inspect are encoded once for each
// change instead of once for each request.
type Revisioner interface {
	// Revision is a number that is another one after anything changed that List
	// or Inspect show. It changes after the change can be seen and before the
	// call that made it returns.
	Revision() uint64
}

// VolumeBackend is what the volume routes call.
type VolumeBackend interface {
	// List returns the volumes the filter selects.
	List(ctx context.Context, f outlet.VolumeFilter) (outlet.VolumeList, error)
	// Create makes a volume, or returns the one there is.
	Create(ctx context.Context, c outlet.VolumeCreate) (outlet.Volume, error)
	// Inspect returns one volume.
	Inspect(ctx context.Context, name string) (outlet.Volume, error)
	// Remove removes a volume; force, although its driver fails.
	Remove(ctx context.Context, name string, force bool) error
	// Mount mounts a volume under an id, making one if it is empty, and returns
	// the path on the host and the id.
	Mount(ctx context.Context, name, id string) (mountpoint, mountID string, err error)
	// Unmount takes back one Mount; an empty id stands for the only one.
	Unmount(ctx context.Context, name, id string) error
}

// SystemBackend tells what the daemon and the machine are.
type SystemBackend interface {
	// Version tells what runs here.
	Version(ctx context.Context) (Version, error)
	// Info tells about the daemon and its host.
	Info(ctx context.Context) (Info, error)
	// OutletInfo tells about Outlet what the Engine API has no words for.
	OutletInfo(ctx context.Context) (OutletInfo, error)
	// Check reports what is wrong with what the daemon keeps; with repair it
	// mends what it can.
	Check(ctx context.Context, repair bool) (outlet.CheckReport, error)
}

// EventSource is where the events route subscribes; [events.Publisher] is one.
type EventSource interface {
	Subscribe(ctx context.Context, o events.Options) *events.Subscription
}
