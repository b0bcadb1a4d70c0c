// Package sdk serves plugins in Docker's protocol: a program implements the
// interface of a capability and the package does the rest, as
// docs/spec/v1-plugins.md §8 demands.
//
//	func main() {
//		sdk.Main("hello", sdk.Plugin{Volume: newDriver()})
//	}
//
// The same program works in two ways. Started by anybody on the host it is a v1
// plugin: it makes itself known in /run/docker/plugins, where Docker, Podman and
// Outlet find it. Packed with a config.json whose socket is "hello.sock" it is a
// managed plugin.
//
// A capability is a field of [Plugin] and an interface. What a capability may
// leave out are interfaces of their own, for example [VolumeScoper]: a driver
// that has the methods serves those calls, for one that has not they are
// answered with 404, which hosts understand. Methods are called concurrently and
// have a context that ends when the caller is gone. An error is answered with
// its text in the ways that Docker and Podman both understand, and a panic is an
// error, too.
//
// The package uses the standard library only. It does not call plugins: that is
// package plugins and the packages below capability.
package sdk
