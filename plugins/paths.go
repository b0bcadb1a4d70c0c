package plugins

import (
	"os"
	"os/user"
	"path/filepath"
	"runtime"
)

// DefaultSocketDir is where plugins put their sockets.
const DefaultSocketDir = "/run/docker/plugins"

// SpecsPaths returns the directories in which spec files are looked for, first
// match first, as the environment says at the moment:
//
//   - on Windows %programdata%\docker\plugins
//   - elsewhere /etc/docker/plugins and /usr/lib/docker/plugins
//   - inside RootlessKit $XDG_CONFIG_HOME/docker/plugins (without the variable
//     $HOME/.config/docker/plugins) and $HOME/.local/lib/docker/plugins, or the
//     directories above where there is no home
func SpecsPaths() []string {
	return specDirs(runtime.GOOS, os.Getenv, homeFromDatabase)
}

// specDirs is SpecsPaths for an operating system and an environment.
func specDirs(goos string, env func(string) string, home func() string) []string {
	if goos == "windows" {
		return []string{filepath.Join(env("programdata"), "docker", "plugins")}
	}
	config, lib := "/etc/docker/plugins", "/usr/lib/docker/plugins"
	if env("ROOTLESSKIT_STATE_DIR") == "" {
		return []string{config, lib}
	}
	h := env("HOME")
	if h == "" {
		h = home()
	}
	if x := env("XDG_CONFIG_HOME"); filepath.IsAbs(x) {
		config = filepath.Join(x, "docker", "plugins")
	} else if h != "" {
		config = filepath.Join(h, ".config", "docker", "plugins")
	}
	if h != "" {
		lib = filepath.Join(h, ".local", "lib", "docker", "plugins")
	}
	return []string{config, lib}
}

// homeFromDatabase is the user's home where the environment does not tell.
func homeFromDatabase() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return u.HomeDir
}
