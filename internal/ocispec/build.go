package ocispec

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/outletd/outlet"
)

// umask of a plugin's process.
const umask = 0o022

// Build returns the runtime spec of a plugin, and warnings for its user about
// what was left out of it. It fails with errdefs.ErrInvalidArgument where the
// plugin cannot be started as it is set; the text then names the setting.
func Build(in Input) (*specs.Spec, []string, error) {
	b := builder{in: in}
	args := slices.Concat(in.Config.Entrypoint, in.Settings.Args)
	if len(args) == 0 || args[0] == "" {
		return nil, nil, outlet.Errorf(errdefs.ErrInvalidArgument, "invalid plugin config: Entrypoint: it is empty, so there is nothing to start")
	}
	if !path.IsAbs(in.Rootfs) || !path.IsAbs(in.SocketDir) || in.ID == "" {
		return nil, nil, fmt.Errorf("a runtime spec needs an id (%q) and absolute paths of a root filesystem (%q) and a socket directory (%q)",
			in.ID, in.Rootfs, in.SocketDir)
	}
	if in.Config.PropagatedMount != "" && (!path.IsAbs(in.PropagatedDir) || path.Clean("/"+in.Config.PropagatedMount) == "/") {
		return nil, nil, outlet.Errorf(errdefs.ErrInvalidArgument, "invalid plugin config: PropagatedMount: %q cannot be mounted from %q",
			in.Config.PropagatedMount, in.PropagatedDir)
	}
	if err := b.settings(); err != nil {
		return nil, nil, err
	}
	if err := b.checkDevices(); err != nil {
		return nil, nil, err
	}
	if err := b.checkSources(); err != nil {
		return nil, nil, err
	}
	spec := &specs.Spec{
		Version:  specs.Version,
		Root:     &specs.Root{Path: in.Rootfs, Readonly: in.ReadonlyRootfs},
		Hostname: in.Hostname,
		Process:  b.process(args),
		Mounts:   b.mounts(),
		Linux:    b.linux(),
	}
	return spec, b.warnings, nil
}

// builder puts a spec together; it lives for one call.
type builder struct {
	in       Input
	user     []specs.Mount // of the settings, in their order
	warnings []string
}

func (b *builder) warn(format string, args ...any) {
	b.warnings = append(b.warnings, fmt.Sprintf(format, args...))
}

func (b *builder) process(args []string) *specs.Process {
	in := b.in
	p := &specs.Process{
		Args:            args,
		Env:             environment(in.Settings.Env),
		Cwd:             "/",
		Capabilities:    b.capabilities(),
		NoNewPrivileges: in.NoNewPrivileges,
		OOMScoreAdj:     in.OOMScoreAdj,
	}
	if in.Config.WorkDir != "" {
		p.Cwd = path.Clean("/" + in.Config.WorkDir)
	}
	mask := uint32(umask)
	p.User.Umask = &mask
	if in.HonourUser {
		p.User.UID, p.User.GID = in.Config.User.UID, in.Config.User.GID
	}
	if own := in.Host.OOMScoreAdj; in.Host.UserNS && (p.OOMScoreAdj == nil || *p.OOMScoreAdj < own) {
		// Lowering it is refused there, and a runtime that is told nothing may
		// try to set 0.
		p.OOMScoreAdj = &own
	}
	return p
}

// defaultPath is the search path of a plugin that sets none.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment returns the environment of a plugin: the search path first, each
// name once, with the last value it was given.
func environment(env []string) []string {
	out := []string{defaultPath}
	at := map[string]int{"PATH": 0}
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		if i, ok := at[name]; ok {
			out[i] = e
			continue
		}
		at[name] = len(out)
		out = append(out, e)
	}
	return out
}
