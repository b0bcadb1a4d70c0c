// Package sdktest checks a plugin that runs: it calls it as Docker and Podman
// do, in their order and with what is odd about them, and fails where one of
// them would not understand the answers. It does not look into the plugin, so
// that it can check one that was not made with package sdk, too.
package sdktest
