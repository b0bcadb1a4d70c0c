package runtime

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/outletd/outlet"
)

// maxSpec bounds what is read of a bundle's config.json.
const maxSpec = 16 << 20

// ReadSpec reads the OCI runtime spec of the bundle in dir. It has a process
// with arguments and a root.
func ReadSpec(dir string) (*specs.Spec, error) {
	f, err := os.Open(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	defer f.Close()
	var spec specs.Spec
	if err := json.NewDecoder(io.LimitReader(f, maxSpec)).Decode(&spec); err != nil {
		return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "bundle: config.json: %w", err)
	}
	if spec.Process == nil || len(spec.Process.Args) == 0 || spec.Root == nil || spec.Root.Path == "" {
		return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "bundle: config.json has no process or no root")
	}
	return &spec, nil
}

// CheckID refuses an id that is not a plain file name of letters, digits and
// "_+-." with errdefs.ErrInvalidArgument: ids become file names, and runc knows
// no others.
func CheckID(id string) error {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-."
	if id == "" || len(id) > 128 || id[0] == '.' || strings.Trim(id, letters) != "" {
		return outlet.Errorf(errdefs.ErrInvalidArgument, "invalid container id %q", id)
	}
	return nil
}
