// Package client talks to an Outlet daemon: a typed client of the Engine API's
// part for plugins, volumes, events and the daemon itself
// (docs/spec/engine-api.md), and of Outlet's own extensions below /outlet/v1.
//
// A client is made with [New]; nothing is dialled before the first call. All
// methods take a context first, may be called from several goroutines, and give
// errors of the classes of github.com/containerd/errdefs: what the daemon
// answered is an [*Error], and that no daemon could be reached is a
// [*ConnectError], whose text says what to do about it.
//
//	c, err := client.New(client.Options{})
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//	plugins, err := c.List(ctx, outlet.ListFilter{})
//
// The package does not run plugins and keeps no state on disk; a program that
// wants to run plugins without a daemon embeds
// [github.com/outletd/outlet/manager]. It does not speak to a plugin's own
// socket either: that is [github.com/outletd/outlet/plugins].
package client
