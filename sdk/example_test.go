package sdk_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/outletd/outlet/capability/secret"
	"github.com/outletd/outlet/plugins"
	"github.com/outletd/outlet/sdk"
)

// clock is a secret provider that tells the year; it has one method.
type clock struct{ now func() time.Time }

func (c clock) GetSecret(_ context.Context, r secret.Request) (sdk.Secret, error) {
	if r.SecretName != "year" {
		return sdk.Secret{}, fmt.Errorf("no secret %q", r.SecretName)
	}
	return sdk.Secret{Value: fmt.Append(nil, c.now().Year()), DoNotReuse: true}, nil
}

// A plugin is served, found by a host, and called.
func Example() {
	dir, err := os.MkdirTemp("", "sdk")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	ready := make(chan string, 1)
	go func() {
		now := func() time.Time { return time.Unix(0, 0).UTC() }
		served <- sdk.Serve(ctx, sdk.Plugin{Secret: clock{now}}, sdk.Options{
			Config: sdk.Config{Name: "clock", SocketDir: dir},
			Ready:  func(addr string) { ready <- addr },
		})
	}()
	addr := <-ready
	fmt.Println(filepath.Base(addr))

	host, err := plugins.New(plugins.Config{SocketDir: dir})
	if err != nil {
		panic(err)
	}
	p, err := host.Get(ctx, "clock", secret.Name)
	if err != nil {
		panic(err)
	}
	value, _, err := secret.New(p.Client().Caller(), secret.Options{}).Get(ctx, secret.Request{SecretName: "year"})
	fmt.Println(string(value), err)
	_, _, err = secret.New(p.Client().Caller(), secret.Options{}).Get(ctx, secret.Request{SecretName: "day"})
	fmt.Println(err)

	if err := host.Close(); err != nil {
		panic(err)
	}
	cancel()
	fmt.Println(<-served)
	// Output:
	// clock.sock
	// 1970 <nil>
	// SecretProvider.GetSecret: no secret "day"
	// <nil>
}
