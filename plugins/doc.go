// Package plugins finds and calls v1 plugins: processes that serve Docker's
// plugin protocol on a socket or a TCP address and make themselves known by a
// file on this host. It is also the RPC client for every other plugin that
// speaks the protocol.
//
// It does not run plugins: that is package manager. It does not know what the
// methods of a volume or a network driver mean: that is what the packages below
// capability are for.
package plugins
