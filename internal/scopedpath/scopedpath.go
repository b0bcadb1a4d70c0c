// Package scopedpath translates paths that a plugin answers, which are paths in
// its own file system, to paths of the host
// (docs/spec/capabilities.md §1.1, rule 4). What a plugin answers is not to be
// trusted: a translated path never leaves the directory it belongs to.
//
// It mounts nothing, and knows nothing of plugins but what a [Scope] says.
package scopedpath

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// maxPath is how long a path may be, as for the kernel.
const maxPath = 4095

// Scope is a plugin's file system as the host sees it. [Identity] is that of a
// plugin which runs on the host itself. The zero value translates nothing.
type Scope struct {
	// Root is the host path of the plugin's root filesystem.
	Root string
	// PropagatedMount is the path in the plugin below which its mounts reach
	// the host, and PropagatedDir the host path of that. Both may be empty.
	PropagatedMount, PropagatedDir string
	// Binds are the files and directories of the host in the plugin, in the
	// order in which they are mounted, which is after the propagated mount.
	Binds []Bind

	identity bool
}

// Bind is a file or directory of the host that a plugin sees.
type Bind struct {
	Destination string // path in the plugin
	Source      string // path on the host
}

// Identity is the scope of a plugin that sees the host's files as they are.
func Identity() Scope { return Scope{identity: true} }

// Host returns the host path of the plugin's path p, by the words of the paths
// alone: nothing is looked at on disk, and what is there may be a symbolic link
// to anywhere. Use [Scope.Resolve] for a path that the host is going to use. An
// empty path stays empty, a relative one is one below the plugin's root.
func (s Scope) Host(p string) (string, error) {
	if p == "" {
		return "", nil
	}
	if s.identity {
		return p, check(p)
	}
	base, rest, err := s.split(p)
	if err != nil {
		return "", err
	}
	return path.Join(base, rest), nil
}

// Resolve returns the host path of what p is in the plugin, with no symbolic
// link left in it that could lead out of the directory of the host it belongs
// to: the source of a bind mount, the directory of the propagated mount, or the
// root filesystem. Links in the root filesystem are followed as the plugin
// would; in the others a link that leads out, or begins at the root, is an
// error. What does not exist is fs.ErrNotExist. An empty path stays empty.
func (s Scope) Resolve(p string) (string, error) {
	if p == "" {
		return "", nil
	}
	if s.identity {
		if err := check(p); err != nil {
			return "", err
		}
		return p, resolveHost(p)
	}
	base, rest, err := s.split(p)
	if err != nil {
		return "", err
	}
	rel, err := resolveIn(base, rest, base == path.Clean(s.Root))
	if err != nil {
		return "", fmt.Errorf("path %q of the plugin: %w", p, err)
	}
	return path.Join(base, rel), nil
}

// split returns the host directory that p belongs to and the path in it, which
// has no "..".
//
// The mount that shows is the last one that was mounted on p or above it: a
// longer destination wins because it comes later, and where it came earlier it
// is hidden.
func (s Scope) split(p string) (base, rest string, err error) {
	if err := check(p); err != nil {
		return "", "", err
	}
	p = clean(p)
	base, rest = s.Root, p
	if s.PropagatedMount != "" && s.PropagatedDir != "" {
		if r, ok := below(clean(s.PropagatedMount), p); ok {
			base, rest = s.PropagatedDir, r
		}
	}
	for _, b := range s.Binds {
		if r, ok := below(clean(b.Destination), p); ok && b.Destination != "" {
			base, rest = b.Source, r
		}
	}
	if !path.IsAbs(base) {
		return "", "", fmt.Errorf("path %q of the plugin has no place on the host", p)
	}
	return path.Clean(base), strings.TrimPrefix(rest, "/"), nil
}

// below returns the rest of p if it is dir or below it, by whole components.
func below(dir, p string) (string, bool) {
	if dir == "/" {
		return p, true
	}
	rest, ok := strings.CutPrefix(p, dir)
	return rest, ok && (rest == "" || rest[0] == '/')
}

func clean(p string) string { return path.Clean("/" + p) }

func check(p string) error {
	switch {
	case strings.ContainsRune(p, 0):
		return errors.New("path of the plugin contains a NUL byte")
	case len(p) > maxPath:
		return fmt.Errorf("path of the plugin is %d bytes long, at most %d are possible", len(p), maxPath)
	}
	return nil
}
