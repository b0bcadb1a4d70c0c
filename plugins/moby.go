package plugins

import (
	"context"
	"errors"
	"sync"
)

// defaultRegistry is behind Moby's functions: Docker's places and patience.
var defaultRegistry = sync.OnceValue(func() *Registry {
	r, err := New(Config{})
	if err != nil {
		panic(err) // the zero value is valid
	}
	return r
})

// Default returns the registry that Get, Handle and every LocalRegistry use.
func Default() *Registry { return defaultRegistry() }

// LocalRegistry is a view of the default registry in the shape of Moby's type.
// All its values are equal.
type LocalRegistry struct{}

// NewLocalRegistry returns a view of the default registry.
func NewLocalRegistry() LocalRegistry { return LocalRegistry{} }

// Scan returns the names of all plugins that the files of this host define. What
// it could not read goes to the function given to OnPartialError, and the error
// is nil.
func (*LocalRegistry) Scan() ([]string, error) {
	names, err := Default().Scan()
	Default().partial(err)
	return names, nil
}

// Plugin returns the plugin of the name, without activating it.
func (*LocalRegistry) Plugin(name string) (*Plugin, error) {
	def, err := Default().Lookup(name)
	if err != nil {
		return nil, err
	}
	return &Plugin{name: def.Name, Addr: def.Addr, TLSConfig: def.TLS, origin: def.Path}, nil
}

// GetAll returns all plugins that serve the subsystem. Those that cannot be used
// go to the function given to OnPartialError, and the error is nil.
func (*LocalRegistry) GetAll(imp string) ([]*Plugin, error) {
	all, err := Default().GetAll(context.Background(), imp)
	if errors.Is(err, ErrClosed) && all == nil {
		return nil, err
	}
	Default().partial(err)
	return all, nil
}

// Get returns the plugin of the name from the default registry, active and
// serving the subsystem imp. It waits for a plugin that is not there yet.
// Registry.Get can be told for how long.
func Get(name, imp string) (*Plugin, error) {
	return Default().Get(context.Background(), name, imp)
}

// Handle has fn called for each activation, in the default registry, of a plugin
// that serves the subsystem iface, and before it returns for those that are
// active. Registry.Handle lets fn fail.
func Handle(iface string, fn func(string, *Client)) {
	// Such a handler cannot fail, so there is no error.
	_ = Default().Handle(context.Background(), iface, func(_ context.Context, name string, c *Client) error {
		fn(name, c)
		return nil
	})
}

// OnPartialError has f called with what Scan and GetAll of a LocalRegistry could
// not use, joined into one error. Nil turns that off.
func OnPartialError(f func(error)) { Default().setOnPartialError(f) }

func (r *Registry) setOnPartialError(f func(error)) {
	r.mu.Lock()
	r.onError = f
	r.mu.Unlock()
}

// partial reports what Moby's signatures have no place for.
func (r *Registry) partial(err error) {
	if err == nil {
		return
	}
	r.mu.Lock()
	f := r.onError
	r.mu.Unlock()
	if f != nil {
		f(err)
	}
}
