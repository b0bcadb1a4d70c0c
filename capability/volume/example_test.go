package volume_test

import (
	"context"
	"fmt"
	"log"

	"github.com/outletd/outlet/capability/volume"
	"github.com/outletd/outlet/plugins"
)

func Example() {
	ctx := context.Background()
	p, err := plugins.Default().Get(ctx, "sshfs", volume.Name)
	if err != nil {
		log.Fatal(err)
	}
	c := volume.New(p.Client().Caller(), volume.Timeouts{})
	if v, err := c.Get(ctx, "data"); err != nil {
		log.Fatal(err) // nothing is known about the volume
	} else if v == nil {
		if err := c.Create(ctx, "data", map[string]string{"sshcmd": "me@example.com:/srv"}); err != nil {
			log.Fatal(err)
		}
	}
	mountpoint, err := c.Mount(ctx, "data", "2f73349cfc46")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(p.ScopedPath(mountpoint))
}
