//go:build !unix

package client

// permissionHint has nothing to say where sockets have no group.
func permissionHint(string) string { return "run the client as the user who may use it" }
