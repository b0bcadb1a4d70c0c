package api

import (
	"context"
	"net"
	"os"
)

type peerKey struct{}

// withPeer remembers who opened a connection, where the kernel tells.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	if uid, ok := peerUID(c); ok {
		return context.WithValue(ctx, peerKey{}, uid)
	}
	return ctx
}

// isPrivileged says whether the caller is root or the daemon's own user, who
// can read the daemon's state anyway.
func isPrivileged(ctx context.Context) bool {
	uid, ok := ctx.Value(peerKey{}).(int)
	return ok && (uid == 0 || uid == os.Geteuid())
}
