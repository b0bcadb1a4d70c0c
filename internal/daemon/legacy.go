package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/scopedpath"
	"github.com/outletd/outlet/internal/volumes"
	"github.com/outletd/outlet/manager"
	"github.com/outletd/outlet/plugins"
)

// openLegacy makes the registry of v1 plugins: those somebody else runs.
func (d *daemon) openLegacy() error {
	var err error
	d.legacy, err = plugins.New(plugins.Config{
		SocketDir: d.cfg.V1SocketDir,
		SpecDirs:  d.cfg.V1SpecDirs,
		// Whoever asks sits before a terminal and does not wait for a plugin
		// that may never come.
		RetryBudget: -1,
		Logger:      d.log,
	})
	if err != nil {
		return fmt.Errorf("look for v1 plugins: %w", err)
	}
	d.onClose(d.legacy.Close)
	return nil
}

// volumeDriver is the name a v1 plugin gives the volume protocol.
const volumeDriver = "VolumeDriver"

// legacy shows v1 plugins to the volume service.
type legacy struct{ r *plugins.Registry }

func (l legacy) Get(ctx context.Context, name string) (volumes.Driver, error) {
	p, err := l.r.Get(ctx, name, volumeDriver)
	if err != nil {
		return volumes.Driver{}, legacyError(name, err)
	}
	return legacyDriver(p), nil
}

func (l legacy) All(ctx context.Context) ([]volumes.Driver, error) {
	found, err := l.r.GetAll(ctx, volumeDriver)
	drivers := make([]volumes.Driver, len(found))
	for i, p := range found {
		drivers[i] = legacyDriver(p)
	}
	if err != nil {
		err = fmt.Errorf("legacy plugin: %w", err)
	}
	return drivers, err
}

func legacyDriver(p *plugins.Plugin) volumes.Driver {
	d := volumes.Driver{Name: p.Name(), Caller: p.Client().Caller(), Scope: scopedpath.Identity()}
	// Of its runs nothing is known: what it mounted lasts until the host is
	// restarted, as far as anybody here can tell.
	if id, err := reap.Identify(os.Getpid()); err == nil {
		d.Instance = id.Boot
	}
	return d
}

// legacyError gives errors of the v1 library the classes and texts of
// docs/spec/v1-plugins.md §6.
func legacyError(name string, err error) error {
	if errors.Is(err, plugins.ErrNotFound) {
		return outlet.Errorf(errdefs.ErrNotFound, "plugin %q not found", name)
	}
	return fmt.Errorf("legacy plugin: %w", err)
}

// subsystemOf is what a v1 plugin calls itself that has the method.
func subsystemOf(method string) string {
	prefix, _, _ := strings.Cut(method, ".")
	switch prefix {
	case "AuthZPlugin":
		return "authz"
	case "SecretProvider":
		return "secretprovider"
	}
	return prefix
}

// backend is what the API calls: the manager, and v1 plugins where those can be
// meant too.
type backend struct {
	*manager.Manager
	legacy *plugins.Registry
}

// Call sends one request to a managed plugin of that name, or, if there is
// none, to a v1 plugin that serves what the method belongs to. The handshake of
// v1 plugins belongs to nothing, so each of them can be asked for it.
func (b backend) Call(ctx context.Context, name, method string, body []byte) (int, []byte, error) {
	status, answer, err := b.Manager.Call(ctx, name, method, body)
	if !errdefs.IsNotFound(err) {
		return status, answer, err
	}
	if method == activate {
		return b.activate(ctx, name, body)
	}
	p, lerr := b.legacy.Get(ctx, name, subsystemOf(method))
	if lerr != nil {
		return 0, nil, legacyError(name, lerr)
	}
	return p.Client().CallRaw(ctx, method, body)
}

// activate is the handshake of v1 plugins (docs/spec/v1-plugins.md §3.1).
const activate = "Plugin.Activate"

// activate sends the handshake to a v1 plugin, whether or not it was active
// before, and whatever it says. Nothing that is known of the plugin changes.
func (b backend) activate(ctx context.Context, name string, body []byte) (int, []byte, error) {
	d, err := b.legacy.Lookup(name)
	if err != nil {
		return 0, nil, legacyError(name, err)
	}
	c, err := plugins.NewClient(d.Addr, d.TLS)
	if err != nil {
		return 0, nil, legacyError(name, err)
	}
	defer c.Close() //nolint:errcheck // cannot fail
	status, answer, err := c.CallRaw(ctx, activate, body, plugins.WithRetryBudget(-1))
	if err != nil {
		return 0, nil, legacyError(name, err)
	}
	return status, answer, nil
}
