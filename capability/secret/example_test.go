package secret_test

import (
	"context"
	"fmt"
	"log"

	"github.com/outletd/outlet/capability/secret"
	"github.com/outletd/outlet/plugins"
)

func Example() {
	ctx := context.Background()
	p, err := plugins.Default().Get(ctx, "vault", secret.Name)
	if err != nil {
		log.Fatal(err)
	}
	value, own, err := secret.New(p.Client().Caller(), secret.Options{}).Get(ctx, secret.Request{SecretName: "db-password"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(value), "bytes; for this task alone:", own)
}
