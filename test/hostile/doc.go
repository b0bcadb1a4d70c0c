// Package hostile tests the built daemon against input of strangers: archives,
// configs, HTTP clients, and plugins. Whatever they do there is a clear error or
// it is contained, nothing is left behind, and the daemon stays small.
//
// What a single part must refuse is tested where that part is (internal/rootfs:
// escapes and limits of archives; internal/api: each byte of a request; plugins:
// broken answers; internal/pluginlog: floods). This package has no code that is
// not a test.
package hostile
