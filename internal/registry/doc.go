// Package registry talks to OCI distribution registries: it resolves references,
// reads manifests and blobs, uploads them, and checks credentials. Host
// configuration, TLS and token authentication are containerd's; the loop around
// one request is our own, because every wait in it must be bounded, counted once
// and told in its error.
//
// It stores nothing and unpacks nothing, and what a manifest means to a plugin
// is not its business beyond picking the entry of an index. Bytes of manifests
// are verified here; bytes of blobs by whoever stores them.
package registry
