package network_test

import (
	"context"
	"fmt"
	"log"

	"github.com/outletd/outlet/capability/network"
	"github.com/outletd/outlet/plugins"
)

// A host learns what a network plugin can do when it becomes active.
func Example() {
	err := plugins.Default().Handle(context.Background(), network.Name, func(ctx context.Context, name string, c *plugins.Client) error {
		can, err := network.New(c.Caller(), network.Options{}).Capabilities(ctx)
		if err != nil {
			return err // the registry calls again when the plugin is next used
		}
		fmt.Println(name, can.Scope)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
}
