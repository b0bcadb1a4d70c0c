// Package version says which Outlet this is. It knows nothing of the version of
// the Engine API, which is package api's.
package version

import "runtime/debug"

// Set by the linker (see the Makefile); nothing else writes them.
var version, commit string

// Version returns the version this program was built as: what git or the
// builder called it, else the module's version, else "dev".
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}

// Commit returns the commit this program was built from, or "" if that is not
// known.
func Commit() string {
	if commit != "" {
		return commit
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
