// Package outlet holds the vocabulary of Outlet, the plugin system of Docker as
// software of its own: what a managed plugin is, how its configuration,
// settings and privileges read, which names and ids are valid, which states a
// plugin can be in, and the classes its errors fall into.
//
// Everything here is a pure rule: no package below the root is imported, and
// nothing touches a disk, a network or a process. To run plugins use
// [github.com/outletd/outlet/manager]; to talk to a daemon use
// [github.com/outletd/outlet/client]; for plugins somebody else runs (v1) use
// [github.com/outletd/outlet/plugins].
package outlet
