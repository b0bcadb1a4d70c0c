// Package plugins finds and calls v1 plugins: processes that serve Docker's
// plugin protocol on a socket or a TCP address and make themselves known by a
// file on this host. It is also the RPC client for every other plugin that
// speaks the protocol. It needs nothing but the standard library.
//
// # Use
//
// A [Registry] finds plugins by the name of their file, shakes hands with them
// when they are first used, and keeps them:
//
//	r, err := plugins.New(plugins.Config{})
//	...
//	defer r.Close()
//	p, err := r.Get(ctx, "sshfs", "VolumeDriver")
//	...
//	err = p.Client().CallContext(ctx, "VolumeDriver.List", struct{}{}, &answer)
//
// Get waits, within bounds and no longer than its context, for a plugin that is
// not there yet; GetAll does not, and remembers for a while who failed. A plugin
// that is restarted, moved or reinstalled is noticed when it is next used.
// Programs that have to set something up for each plugin register a [Handler].
//
// The packages below capability have typed clients for what plugins do; they
// call through [Client.Caller].
//
// # Coming from Moby
//
// Beside the methods that take a context there is everything that
// github.com/docker/docker/pkg/plugins has, with its signatures, so that a
// program changes its import paths and nothing else: Get, Handle, NewClient,
// NewClientWithTimeout, LocalRegistry and the rest work on one registry,
// [Default]. They behave the same except where Moby's behaviour is a defect
// (docs/spec/v1-plugins.md §9); above all, plugins with an https address are
// verified. What Moby's Scan and GetAll log or fail with goes to
// [OnPartialError].
//
// # Limits
//
// The package does not run plugins: that is package manager. It does not know
// what the methods of a volume or a network driver mean, follows no redirects,
// uses no proxy on its own and logs nothing unless it is given a logger. Named
// pipes are compiled for Windows and have not been run there.
package plugins
