//go:build !unix

package registry

// armVariant is what such machines have at least.
func armVariant() string { return "v7" }
