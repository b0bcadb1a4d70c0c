// Package interop tests the built programs together with what others wrote:
// docker command lines against our socket, rclone as a managed plugin, and
// plugins that are broken in the ways real ones are. It has no code that is not
// a test.
package interop
