package runc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

// Find returns the path of the runc program: explicit if it is not empty (a name
// without a slash is looked up on PATH); else runc beside this program, in
// ../libexec/outlet seen from there, or on PATH. errdefs.ErrNotFound: there is
// none; the error says how to get it.
func Find(explicit string) (string, error) {
	if explicit != "" {
		path, err := exec.LookPath(explicit)
		if err != nil {
			return "", outlet.Errorf(errdefs.ErrNotFound, "runtime %s: %w", explicit, errors.Unwrap(err))
		}
		return filepath.Abs(path)
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find runc: %w", err)
	}
	if real, err := filepath.EvalSymlinks(self); err == nil {
		self = real
	}
	return find(filepath.Dir(self))
}

func find(dir string) (string, error) {
	for _, p := range []string{
		filepath.Join(dir, "runc"),
		filepath.Join(dir, "..", "libexec", "outlet", "runc"),
	} {
		if path, err := exec.LookPath(p); err == nil {
			return filepath.Abs(path)
		}
	}
	path, err := exec.LookPath("runc")
	if err != nil {
		return "", outlet.Errorf(errdefs.ErrNotFound, "runc not found beside outlet, in ../libexec/outlet or on PATH: "+
			"`make build` builds it, or install the distribution's package runc, or name it with --runtime")
	}
	return filepath.Abs(path)
}
