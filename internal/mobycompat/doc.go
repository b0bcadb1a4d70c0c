// Package mobycompat compares package plugins with the package of Moby that it
// stands in for: the exported names and signatures, and how both behave. It has
// tests and no code. It is a module of its own, in a workspace of its own, so
// that nobody else needs Moby: run go test ./... in its directory.
package mobycompat
