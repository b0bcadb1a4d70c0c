package cli

import (
	"runtime"
	"runtime/debug"
)

// BuildInfo describes this program.
type BuildInfo struct {
	Version   string // of the module, "devel" for a build from a working tree
	GitCommit string // "" if it is not known
	BuildTime string // RFC 3339: the time of the commit; "" if it is not known
	GoVersion string
}

// ReadBuildInfo reads what the Go tool has written into the program.
func ReadBuildInfo() BuildInfo {
	b := BuildInfo{Version: "devel", GoVersion: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.GitCommit = s.Value
		case "vcs.time":
			b.BuildTime = s.Value
		}
	}
	return b
}

func (b BuildInfo) shortCommit() string {
	if b.GitCommit == "" {
		return "unknown"
	}
	return b.GitCommit[:min(7, len(b.GitCommit))]
}
