package plugingetter_test

import (
	"context"
	"fmt"

	"github.com/outletd/outlet/plugins"
	"github.com/outletd/outlet/plugins/plugingetter"
)

// v1 is a getter for programs that have no managed plugins.
type v1 struct{ registry *plugins.Registry }

func (g v1) Get(name, capability string, _ int) (plugingetter.CompatPlugin, error) {
	return g.registry.Get(context.Background(), name, capability, plugins.WithBudget(0))
}

func (g v1) GetAllByCap(capability string) ([]plugingetter.CompatPlugin, error) {
	all, err := g.registry.GetAll(context.Background(), capability)
	found := make([]plugingetter.CompatPlugin, len(all))
	for i, p := range all {
		found[i] = p
	}
	return found, err
}

func (g v1) GetAllManagedPluginsByCap(string) []plugingetter.CompatPlugin { return nil }

func (g v1) Handle(capability string, callback func(string, *plugins.Client)) {
	// Such a handler cannot fail, so there is no error.
	_ = g.registry.Handle(context.Background(), capability, func(_ context.Context, name string, c *plugins.Client) error {
		callback(name, c)
		return nil
	})
}

func Example() {
	registry, err := plugins.New(plugins.Config{SocketDir: "/nonexistent", SpecDirs: []string{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer registry.Close()

	var getter plugingetter.PluginGetter = v1{registry}
	_, err = getter.Get("sshfs", "VolumeDriver", plugingetter.Acquire)
	fmt.Println(err)
	// Output: could not find plugin sshfs in v1 plugin registry: plugin not found
}
